"""What a gateway knows of accounts survives it: kept in a sealed file, so that one that starts while accounts are away knows everybody.

All gateways of a host write the same file. Its first line says how far it is, so that one that is behind does not put an older state over
a newer one.
"""

from __future__ import annotations

from pathlib import Path

from cordee.adapters.durable import directory, locked, replace
from cordee.wire import credentials
from cordee.wire.credentials import Page

STATE_FILE = Path("services") / "credentials.sealed"  # in the data directory
FILE_BYTES_MAX = 256 * 1024 * 1024
HEAD_BYTES_MAX = 512
_LOCK_SUFFIX = ".lock"


def keep(data: Path, page: Page, secret: bytes) -> None:
    """Write down everything that is known, unless a newer state is there. Blocks. Raises OSError."""
    path = data / STATE_FILE
    directory(path.parent)
    with locked(path.with_name(path.name + _LOCK_SUFFIX)):
        if _revision(path, page.epoch) >= page.revision:
            return
        body = credentials.encode(page)
        replace(
            path, b"%s %d %s\n%s" % (credentials.seal(body, secret).encode(), page.revision, page.epoch.encode(), body)
        )


def kept(data: Path, secret: bytes) -> Page | None:
    """What was written down last; None where there is nothing, or it is not ours. Raises OSError."""
    path = data / STATE_FILE
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    head, _, body = raw.partition(b"\n")
    if len(raw) > FILE_BYTES_MAX or not credentials.is_sealed(body, head.partition(b" ")[0].decode("latin-1"), secret):
        return None
    try:
        return credentials.decode(body)
    except ValueError:
        return None


def _revision(path: Path, epoch: str) -> int:
    """How far the file is in this epoch; -1: nowhere. What its first line says is not believed for more than that."""
    try:
        with path.open("rb") as file:
            words = file.readline(HEAD_BYTES_MAX).split()
    except FileNotFoundError:
        return -1
    if len(words) != 3 or words[2] != epoch.encode() or not words[1].isdigit():
        return -1
    return int(words[1])
