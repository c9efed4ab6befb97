import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cordee.adapters.guests import sessions

TREE = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("x", flush=True)
time.sleep(60)
"""


@pytest.fixture
def leader():
    process = subprocess.Popen([sys.executable, "-c", TREE], start_new_session=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(1)
    yield process
    sessions.end(process.pid)
    process.wait()
    process.stdout.close()


def gone(session: int) -> bool:
    end = time.monotonic() + 10
    while sessions.members(session) and time.monotonic() < end:
        time.sleep(0.01)
    return not sessions.members(session)


def test_all_processes_of_a_session_are_found_and_ended_also_when_its_leader_is_dead(leader):
    assert len(sessions.members(leader.pid)) == 2
    leader.kill()
    leader.wait()
    assert len(sessions.end(leader.pid)) == 1
    assert gone(leader.pid)


def test_what_was_written_down_is_ended_once(leader, tmp_path: Path):
    note = tmp_path / "n.guest"
    sessions.write_down(note, leader.pid)
    assert len(sessions.end_leftover(note)) == 2
    leader.wait()
    assert gone(leader.pid)
    assert sessions.end_leftover(note) == []


@pytest.mark.parametrize("change", [{"boot": "another"}, {"began": 1}])
def test_the_number_of_another_session_is_not_mistaken_for_it(leader, tmp_path: Path, change):
    note = tmp_path / "n.guest"
    sessions.write_down(note, leader.pid)
    note.write_text(json.dumps({**json.loads(note.read_bytes()), **change}))
    assert sessions.end_leftover(note) == []
    assert leader.poll() is None


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}"])
def test_a_note_that_cannot_be_read_ends_nothing(tmp_path: Path, text):
    note = tmp_path / "n.guest"
    note.write_text(text)
    assert sessions.end_leftover(note) == []
    assert sessions.end_leftover(tmp_path / "none") == []
