"""Local processes: their log, their processors, their end, and the end of their parent."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cordee.adapters.processes import Process, Program, log_tail, spawn, start_ticks, trim_log

PATIENCE_S = 30.0


def program(tmp_path: Path, code: str, cores: frozenset[int] | None = None) -> Program:
    return Program((sys.executable, "-c", code), {"PATH": os.environ["PATH"], "SEEN": "yes"}, tmp_path / "log", cores)


def run(one: Program) -> tuple[int, str]:
    async def life() -> int:
        return await (await spawn(one)).wait()

    return asyncio.run(life()), one.log.read_text()


def test_it_has_its_log_its_environment_and_a_session_of_its_own(tmp_path: Path) -> None:
    code = "import os, sys; print(os.environ['SEEN'], 'HOME' in os.environ, os.getsid(0) == os.getpid()); sys.exit(7)"
    status, log = run(program(tmp_path, code))
    assert status == 7
    assert log == "yes False True\n"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_it_keeps_to_its_cores_and_may_open_as_many_files_as_the_system_lets_it(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    code = (
        "import os, resource; s, h = resource.getrlimit(resource.RLIMIT_NOFILE); print(os.sched_getaffinity(0), s == h)"
    )
    _, log = run(program(tmp_path, code, frozenset({core})))
    assert log == f"{{{core}}} True\n"


def test_what_cannot_be_executed_says_so_in_its_log(tmp_path: Path) -> None:
    status, log = run(Program(("/no/such/program",), {}, tmp_path / "log"))
    assert status == 127
    assert "cannot start /no/such/program" in log


def test_a_stopped_process_hears_the_request_to_end(tmp_path: Path) -> None:
    async def life() -> int:
        process = await spawn(program(tmp_path, "import time; time.sleep(60)"))
        os.kill(process.pid, signal.SIGSTOP)
        process.terminate()
        status = await asyncio.wait_for(process.wait(), PATIENCE_S)
        process.kill()  # nothing any more
        assert not process.running
        return status

    assert asyncio.run(life()) == -signal.SIGTERM


PARENT = """
import asyncio, sys
from pathlib import Path
from cordee.adapters.processes import Program, spawn

async def main():
    child = await spawn(Program((sys.executable, "-c", "import time; time.sleep(60)"), {}, Path(sys.argv[1])))
    print(child.pid, flush=True)
    await child.wait()

asyncio.run(main())
"""


@pytest.mark.e2e
def test_a_child_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "log")], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    born = start_ticks(child)
    deadline = time.monotonic() + PATIENCE_S
    while (
        b"time.sleep" not in Path(f"/proc/{child}/cmdline").read_bytes()
        or b"leash" in Path(f"/proc/{child}/cmdline").read_bytes()
    ):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    while start_ticks(child) == born:
        assert time.monotonic() < deadline, "the child is still there"
        time.sleep(0.01)


def test_a_log_that_has_grown_too_long_is_moved_aside(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    with log.open("ab") as writer:
        writer.write(b"old " * 100)
        writer.flush()
        trim_log(log, 1000)
        assert log.stat().st_size == 400
        trim_log(log, 100)
        assert log.stat().st_size == 0
        writer.write(b"new")
    assert log.read_bytes() == b"new"
    assert (tmp_path / "x.log.1").read_bytes() == b"old " * 100


def test_the_last_lines_are_those_of_the_last_life(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_bytes(b"before\n" + b"one\ntwo \x1b[31m\xff\nthree\n")
    assert log_tail(log, len(b"before\n")) == ["one", "two  [31m�", "three"]
    assert log_tail(log, 0, lines_max=1) == ["three"]
    assert log_tail(tmp_path / "absent", 0) == []
    assert log_tail(log, 10_000)[0] == "before"  # it was cut since


def test_a_process_is_known_by_its_start() -> None:
    assert start_ticks(os.getpid()) is not None
    assert start_ticks(2**22 + 1) is None


def test_a_process_that_was_never_there_is_no_error(tmp_path: Path) -> None:
    async def life() -> Process:
        process = await spawn(program(tmp_path, "pass"))
        await process.wait()
        process.terminate()
        return process

    assert not asyncio.run(life()).running
