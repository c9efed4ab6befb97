"""Names of objects: a prefix that says the kind, milliseconds, and chance (after RFC 9562, UUIDv7). They sort by age, unguessable."""

from __future__ import annotations

import re
import secrets
import time

_TIME_DIGITS = 12  # 48 bits of milliseconds
_RANDOM_BYTES = 10
PATTERN = r"^[a-z]{2,12}_[0-9a-f]{32}$"
CHARACTERS_MAX = 45


def new(prefix: str, after: str = "") -> str:
    """`prefix_` and 32 hexadecimal digits. `after`: a name that it sorts behind, also within a millisecond of it and whatever became of
    the clock; "" and what is no name of this kind do not count."""
    milliseconds = time.time_ns() // 1_000_000
    if after.startswith(f"{prefix}_") and re.fullmatch(PATTERN, after):
        milliseconds = max(milliseconds, int(after.removeprefix(f"{prefix}_")[:_TIME_DIGITS], 16) + 1)
    return f"{prefix}_{milliseconds:0{_TIME_DIGITS}x}{secrets.token_hex(_RANDOM_BYTES)}"
