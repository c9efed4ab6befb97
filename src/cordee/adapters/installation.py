"""The name of this installation among others: random, made once, in the data directory that its gateways share.

It names us to other gateways on a request's way, so that a request that comes back is known. It is no secret.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cordee.adapters import durable

FILE_NAME = "installation"
ID_BYTES = 8


def installation(data: Path) -> str:
    """The name, made now if there is none. Raises OSError."""
    path = data / FILE_NAME
    known = _read(path)
    if known:
        return known
    with durable.locked(data / f".{FILE_NAME}.lock"):
        known = _read(path)
        if not known:
            known = secrets.token_hex(ID_BYTES)
            durable.replace(path, known.encode() + b"\n")
    return known


def _read(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return ""
    with os.fdopen(descriptor, "rb") as file:
        text = file.read(4 * ID_BYTES).strip().decode("ascii", "replace")
    return text if len(text) == 2 * ID_BYTES and text.isalnum() else ""
