"""How much of today's money a gateway had promised when it last wrote it down: what a restart must count as spent.

One small file a gateway, in DIR/spend/. A file that cannot be read counts as nothing spent only where there is none; a damaged
one is an error, because it stands for money.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from cordee.adapters import durable

DIRECTORY = "spend"


class _Promised(msgspec.Struct, forbid_unknown_fields=True):
    day: int
    promised: float


class SpendFile:
    """Of the gateway `name`. Raises OSError where the directory cannot be made."""

    def __init__(self, data: Path, name: str) -> None:
        self._path = durable.directory(data / DIRECTORY) / f"{name.replace('/', '_')}.json"

    def read(self, day: int) -> float:
        """What was promised on this day. Raises OSError."""
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return 0.0
        try:
            promised = msgspec.json.decode(raw, type=_Promised)
        except msgspec.MsgspecError as error:
            raise OSError(f"{self._path} is damaged: look at what was spent today, then remove it") from error
        return promised.promised if promised.day == day else 0.0

    def write(self, day: int, promised: float) -> None:
        """Raises OSError."""
        durable.replace(self._path, msgspec.json.encode(_Promised(day, promised)))
