"""How a command says that it could not do what was asked."""

from __future__ import annotations

import sys


def complain(message: str, code: int) -> int:
    """Say it on standard error; returns the exit status `code`."""
    print(f"cordee: {shown(message)}", file=sys.stderr)
    return code


def shown(text: str) -> str:
    """What a server or a file says must not steer the terminal: without what cannot be printed, but for new lines."""
    return "".join(letter for letter in text if letter.isprintable() or letter == "\n")
