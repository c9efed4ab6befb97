"""How a command says that it could not do what was asked."""

from __future__ import annotations

import sys


def complain(message: str, code: int) -> int:
    """Say it on standard error; returns the exit status `code`."""
    print(f"cordee: {message}", file=sys.stderr)
    return code
