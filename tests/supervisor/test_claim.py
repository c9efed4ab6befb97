"""One platform per directory, and what the last one left behind is ended."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cordee.adapters.processes import start_ticks
from cordee.supervisor.claim import Claim, ClaimError


def test_a_second_platform_for_the_same_directory_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    first = Claim.take(tmp_path / "new" / "data")
    with pytest.raises(ClaimError, match=rf"already runs for .*pid {os.getpid()}.*cordee down"):
        Claim.take(tmp_path / "new" / "data")
    first.release()
    Claim.take(tmp_path / "new" / "data").release()


def test_the_directories_are_the_owners_alone(tmp_path: Path) -> None:
    Claim.take(tmp_path / "data").release()
    for directory in ("data", "data/run", "data/log"):
        assert (tmp_path / directory).stat().st_mode & 0o777 == 0o700


def test_a_directory_that_cannot_be_made_is_refused_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ClaimError, match=r"cannot be used: .*choose another with --data DIR"):
        Claim.take(tmp_path / "file" / "data")


@pytest.mark.e2e
def test_a_leftover_is_ended_and_a_stranger_with_its_pid_is_not(tmp_path: Path) -> None:
    claim = Claim.take(tmp_path)
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(sleeper) as leftover, subprocess.Popen(sleeper) as stranger:
        os.kill(leftover.pid, signal.SIGSTOP)  # hears no SIGTERM
        claim.write_down([leftover.pid, stranger.pid])
        entries = dict(json.loads((tmp_path / "run" / "pids.json").read_text()))
        assert entries[leftover.pid] == start_ticks(leftover.pid)
        entries[stranger.pid] -= 1  # the pid was given to another process since
        (tmp_path / "run" / "pids.json").write_text(json.dumps(list(entries.items())))
        assert claim.end_leftovers() == [leftover.pid]
        assert leftover.wait() == -signal.SIGKILL
        assert stranger.poll() is None
        stranger.kill()
    assert claim.end_leftovers() == []
    claim.release()


@pytest.mark.parametrize("content", ["", "[", "{}", "[1]", '[["a", 2]]', "[[1]]"])
def test_a_broken_list_of_leftovers_is_no_obstacle(tmp_path: Path, content: str) -> None:
    claim = Claim.take(tmp_path)
    (tmp_path / "run" / "pids.json").write_text(content)
    assert claim.end_leftovers() == []
    claim.release()
