"""What a confined process can still do, tried in one of its own: rights do not come back."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from cordee.adapters.rights import LANDLOCK_CREATE_RULESET, LANDLOCK_VERSION

TRIALS = """
import os, socket, sys, threading
from pathlib import Path
from cordee.adapters import rights

base = Path(sys.argv[1])
assert rights.give_up({Path("/dev"): rights.DEVICES, base / "sockets": rights.SOCKETS}) == []

def tried(name, what):
    try:
        what()
    except OSError as error:
        print(name, "denied", type(error).__name__)
    else:
        print(name, "done")

def bind(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))

tried("read", lambda: (base / "model").read_bytes())
tried("change", lambda: (base / "model").open("r+b"))
tried("make", lambda: (base / "new").write_text("x"))
tried("remove", lambda: (base / "model").unlink())
tried("rename", lambda: (base / "model").rename(base / "other"))
tried("program", lambda: os.posix_spawn("/bin/true", ["true"], {}))
tried("connect", lambda: socket.create_connection(("127.0.0.1", 9), 1))
tried("signal", lambda: os.kill(os.getppid(), 0))
tried("device", lambda: open("/dev/null", "wb").close())
tried("socket", lambda: bind(base / "sockets" / "a.sock"))
tried("unsocket", lambda: (base / "sockets" / "a.sock").unlink())
tried("elsewhere", lambda: bind(base / "b.sock"))
made = []
thread = threading.Thread(target=lambda: tried("thread", lambda: (base / "new").write_text("x")))
thread.start(); thread.join()
"""

has_landlock = ctypes.CDLL(None).syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), LANDLOCK_VERSION) >= 6


@pytest.mark.skipif(
    not has_landlock, reason="this kernel has no Landlock of version 6, which can refuse all that is tried"
)
def test_a_confined_process_reads_and_listens_and_nothing_else(tmp_path: Path):
    (tmp_path / "model").write_bytes(b"weights")
    (tmp_path / "sockets").mkdir()
    done = subprocess.run([sys.executable, "-c", TRIALS, str(tmp_path)], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    allowed = {name for name, what in found.items() if what == "done"}
    assert allowed == {"read", "device", "socket", "unsocket"}
    assert found["connect"] == "denied PermissionError"
    assert (tmp_path / "model").read_bytes() == b"weights"
