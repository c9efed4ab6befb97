"""Commands that are killed by the kernel at exactly one place: just before the named function is called for the n-th time.

`python -m tests.compose.saving.dying`: a JSON list of [FUNCTION, N, [WORDS, …]] on standard input; imports once, then forks a process
per life, and prints how each ended.
"""

from __future__ import annotations

import json
import os
import pkgutil
import signal
import sys
from collections.abc import Callable
from typing import Any

from cordee.cli import main
from cordee.compose.saving import backup, restore  # what the commands import when they run

FUNCTIONS = {
    "restore lays out": "cordee.compose.saving.restore._write",
    "restore fills a table": "cordee.compose.saving.databases._fill",
    "restore names the life": "cordee.compose.saving.restore.renew",
    "restore moves": "pathlib.Path.rename",
    "restore has moved": "os.sync",
    "backup adds": "cordee.compose.saving.archive.Writer.add",
    "backup names": "os.link",
}


def dies(function: str, at: int) -> None:
    """From now on the `at`-th call of `function` is this process's end."""
    where, _, name = FUNCTIONS[function].rpartition(".")
    owner = pkgutil.resolve_name(where)
    real: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def counted(*words: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*words, **named)

    setattr(owner, name, counted)


def live(function: str, at: int, words: list[str]) -> int:
    """How a process that says `words` ends: a negative number is a signal."""
    child = os.fork()
    if child == 0:
        dies(function, at)
        os._exit(main(words))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    assert backup is not None
    assert restore is not None
    told, sys.stdout = sys.stdout, sys.stderr  # what the commands say is not the result
    json.dump([live(*one) for one in json.load(sys.stdin)], told)
