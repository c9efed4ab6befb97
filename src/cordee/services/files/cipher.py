"""Contents are encrypted where they lie: pieces of 64 KiB under a key that belongs to one content alone, so that any range can be read.

The keys of contents are in the database, each sealed with a key of the installation that is not there: neither the storage nor the
database tells anything by itself, and a content whose row is gone can be read by nobody, wherever copies of its bytes may lie. Each
piece is sealed with its number and with whether it is the last one (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár,
"Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", 2015): none can be changed, moved, left out or cut off.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cordee.config.sections.services import Encryption
from cordee.services.base.database import DatabaseError
from cordee.services.base.seal import SECRET_BYTES, Seal, secret_of
from cordee.services.files.records import Blob

PIECE_BYTES = 65_536
TAG_BYTES = 16
SEALED_BYTES = PIECE_BYTES + TAG_BYTES
KEY_FILE = "files.key"
_INDEX_BYTES = 11  # of the nonce; the twelfth says whether the piece is the last one
_NAME_CHARACTERS = 16  # of a key's digest, by which a content knows with which key its own was sealed


class DamagedError(Exception):
    """What lies in storage is not what was written there."""


class Lock:
    """Seals and opens the pieces of one content."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, block: bytes | bytearray | memoryview, first: int, has_last: bool) -> bytes:
        """The pieces of `block`, of which the first has the number `first`; only the last piece of all may be short."""
        view, sealed = memoryview(block), []
        starts = range(0, len(view), PIECE_BYTES) or range(1)  # an empty content has one empty piece
        for number, start in enumerate(starts, first):
            is_last = has_last and start == starts[-1]
            sealed.append(self._cipher.encrypt(_nonce(number, is_last), view[start : start + PIECE_BYTES], None))
        return b"".join(sealed)

    def open(self, block: bytes | bytearray | memoryview, first: int, count: int) -> bytes:
        """The content of `block`: whole pieces from number `first` on, of a content that has `count` of them. Raises DamagedError."""
        view, opened = memoryview(block), []
        try:
            for number, start in enumerate(range(0, len(view), SEALED_BYTES), first):
                nonce = _nonce(number, number == count - 1)
                opened.append(self._cipher.decrypt(nonce, view[start : start + SEALED_BYTES], None))
        except (InvalidTag, ValueError) as error:
            raise DamagedError("a piece in storage has been changed, or is another one's.") from error
        return b"".join(opened)


class Keyring:
    """The installation's keys: one that seals, and earlier ones that still open."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._seals = {_name(key): Seal(key) for key in keys}
        self.newest = _name(keys[0])

    def new_lock(self, blob: str) -> tuple[Lock, bytes]:
        """For a new content: its lock, and its key sealed under the name of the content with the newest key."""
        key = secrets.token_bytes(SECRET_BYTES)
        return Lock(key), self._seals[self.newest].close(blob, key)

    def lock_of(self, blob: Blob) -> Lock | None:
        """None for what is not encrypted. Raises DamagedError."""
        if blob.wrapped is None or blob.master is None:
            return None
        seal = self._seals.get(blob.master)
        if seal is None:
            raise DamagedError(
                f"{blob.name} was encrypted under a key ({blob.master}…) that is not here; name its file in earlier_key_files."
            )
        try:
            return Lock(seal.open(blob.name, blob.wrapped))
        except DatabaseError as error:
            raise DamagedError(str(error)) from error


def keyring(settings: Encryption, data: Path, environment: Mapping[str, str]) -> Keyring:
    """The keys that the settings name; the usual one is made at the first start. Raises DatabaseError."""
    if settings.key_env:
        first = _from_text(settings.key_env, environment.get(settings.key_env, ""))
    elif settings.key_file:
        first = _from_file(Path(settings.key_file))
    else:
        first = secret_of(data / "services" / KEY_FILE)
    return Keyring([first, *(_from_file(Path(name)) for name in settings.earlier_key_files)])


def stored_size(size: int) -> int:
    """How many bytes a content of `size` bytes takes when it is encrypted."""
    return size + pieces_of(size) * TAG_BYTES


def pieces_of(size: int) -> int:
    return max(1, -(-size // PIECE_BYTES))


def _name(key: bytes) -> str:
    return hashlib.sha256(b"cordee files " + key).hexdigest()[:_NAME_CHARACTERS]


def _nonce(number: int, is_last: bool) -> bytes:
    return number.to_bytes(_INDEX_BYTES, "big") + bytes([is_last])


def _from_text(name: str, text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != SECRET_BYTES:
        raise DatabaseError(
            f"the environment variable {name} does not hold {SECRET_BYTES} bytes in base64; make one with: openssl rand -base64 32."
        )
    return key


def _from_file(path: Path) -> bytes:
    try:
        key = path.read_bytes()
    except OSError as error:
        raise DatabaseError(f"{path}: the key of files cannot be read: {error.strerror}; run as its owner.") from error
    if len(key) != SECRET_BYTES:
        raise DatabaseError(f"{path}: has {len(key)} bytes instead of {SECRET_BYTES}; restore it from a backup.")
    return key
