"""The secret of an installation, with which its processes vouch to each other: read, or made by whichever process comes first.

The same file as services make (services/base/seal.py), read without what services need for their databases.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from cordee.adapters.durable import OWNER_ONLY, directory

SECRET_FILE = Path("services") / "internal.secret"  # in the data directory
SECRET_BYTES = 32


class SecretError(Exception):
    """The secret cannot be read or made. The message says what to do."""


def internal_secret(data: Path) -> bytes:
    """Raises SecretError."""
    path = data / SECRET_FILE
    try:
        directory(path.parent)
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, OWNER_ONLY)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(secrets.token_bytes(SECRET_BYTES))
                stream.flush()
                os.fsync(stream.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(part, path)  # whole, and only if none is there: of two processes at once one wins
        finally:
            part.unlink()
        found = path.read_bytes()
    except OSError as error:
        raise SecretError(
            f"{path}: the secret cannot be read or made: {error.strerror}; run as the file's owner."
        ) from error
    if len(found) != SECRET_BYTES:
        raise SecretError(f"{path}: has {len(found)} bytes instead of {SECRET_BYTES}; restore it from a backup.")
    return found
