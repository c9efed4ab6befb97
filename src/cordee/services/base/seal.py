"""Secrets that must be readable again (signing keys) are sealed before they are stored, with a key that is not in the database.

AES-256-GCM; the name of what is sealed is authenticated with it, so that nothing sealed under one name opens under another.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cordee.services.base.database import DatabaseError

SECRET_BYTES = 32
_NONCE_BYTES = 12


def secret_of(path: Path) -> bytes:
    """The secret in the file, for its owner only; made at the first time. Raises DatabaseError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(secrets.token_bytes(SECRET_BYTES))
                stream.flush()
                os.fsync(stream.fileno())
            os.link(part, path)  # whole, and only if none is there: of two processes at once one wins
        except FileExistsError:
            pass
        finally:
            part.unlink()
        found = path.read_bytes()
    except OSError as error:
        raise DatabaseError(
            f"{path}: the secret cannot be read or made: {error.strerror}; run as the file's owner."
        ) from error
    if len(found) != SECRET_BYTES:
        raise DatabaseError(f"{path}: has {len(found)} bytes instead of {SECRET_BYTES}; restore it from a backup.")
    return found


class Seal:
    """Closes and opens what a service stores."""

    def __init__(self, secret: bytes) -> None:
        assert len(secret) == SECRET_BYTES, "a seal is made of 32 bytes"
        self._cipher = AESGCM(secret)

    def close(self, name: str, content: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content, name.encode())

    def open(self, name: str, sealed: bytes) -> bytes:
        """Raises DatabaseError for what was sealed with another secret, or changed since."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode())
        except InvalidTag as error:
            raise DatabaseError(
                f"{name} was sealed with another secret than this service has now; restore the secret file of the time."
            ) from error
