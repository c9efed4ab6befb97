"""Names of objects: a prefix that says the kind, milliseconds, and chance (after RFC 9562, UUIDv7). They sort by age, unguessable."""

from __future__ import annotations

import secrets
import time

_TIME_DIGITS = 12  # 48 bits of milliseconds
_RANDOM_BYTES = 10
PATTERN = r"^[a-z]{2,12}_[0-9a-f]{32}$"
CHARACTERS_MAX = 45


def new(prefix: str) -> str:
    """`prefix_` and 32 hexadecimal digits."""
    return f"{prefix}_{time.time_ns() // 1_000_000:0{_TIME_DIGITS}x}{secrets.token_hex(_RANDOM_BYTES)}"
