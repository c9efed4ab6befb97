"""A stream of bytes sealed with a passphrase: AES-256-GCM in chunks, under a key that scrypt makes of the passphrase.

Chunks are numbered and the last one says that it is, so that none can be changed, moved, repeated or cut off (Hoang, Reyhanitabar,
Rogaway, Vizár: "Online authenticated-encryption and its nonce-reuse misuse-resistance", the STREAM construction). The head, with
scrypt's costs and salt, is authenticated with every chunk.
"""

from __future__ import annotations

import secrets
import struct
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from cordee.compose.saving.problem import SavingError

MAGIC = b"CORDEEBK"
_VERSION = 1
_HEAD = struct.Struct(">8sBBBB16s7s")  # magic, version, log2 of scrypt's n, r, p, salt, prefix of the nonces
_COST = (16, 8, 1)  # 64 MiB of memory, about a quarter of a second
_COST_MAX = (20, 8, 4)  # what a file may ask of whoever opens it: 1 GiB
_CHUNK_BYTES = 1024 * 1024
_TAG_BYTES = 16
_KEY_BYTES = 32
_CHUNKS_MAX = 2**32  # 4 PiB; the counter in the nonce has four bytes


class Sink(Protocol):
    """What takes bytes."""

    def write(self, data: bytes, /) -> object: ...


class Source(Protocol):
    """What gives bytes: at most so many, b"" at the end."""

    def read(self, size: int, /) -> bytes: ...


class Sealing:
    """A Sink that writes sealed to another one. Without `close` what was written cannot be opened."""

    def __init__(self, sink: Sink, passphrase: bytes) -> None:
        self._sink = sink
        salt, self._prefix = secrets.token_bytes(16), secrets.token_bytes(7)
        self._head = _HEAD.pack(MAGIC, _VERSION, *_COST, salt, self._prefix)
        self._cipher = AESGCM(_key(passphrase, salt, _COST))
        self._number = 0
        self._waiting = bytearray()
        sink.write(self._head)

    def write(self, data: bytes, /) -> int:
        self._waiting += data
        while len(self._waiting) > _CHUNK_BYTES:  # the last chunk is written by close, so one always stays
            self._seal(bytes(self._waiting[:_CHUNK_BYTES]), last=False)
            del self._waiting[:_CHUNK_BYTES]
        return len(data)

    def close(self) -> None:
        self._seal(bytes(self._waiting), last=True)

    def _seal(self, chunk: bytes, *, last: bool) -> None:
        self._sink.write(self._cipher.encrypt(_nonce(self._prefix, self._number, last=last), chunk, self._head))
        self._number += 1


class Opening:
    """A Source that opens what Sealing wrote. Raises SavingError for another passphrase, and for what was changed or cut off."""

    def __init__(self, source: Source, passphrase: bytes) -> None:
        self._source = source
        self._head = source.read(_HEAD.size)
        if len(self._head) < _HEAD.size:
            raise SavingError("the backup ends in its head: it is not whole")
        magic, version, n, r, p, salt, self._prefix = _HEAD.unpack(self._head)
        if magic != MAGIC or version != _VERSION:
            raise SavingError(f"the backup is sealed in a way (version {version}) that this program does not know")
        if any(asked > most for asked, most in zip((n, r, p), _COST_MAX, strict=True)):
            raise SavingError("the backup asks for more work to open it than any of ours: it is none")
        self._cipher = AESGCM(_key(passphrase, salt, (n, r, p)))
        self._number = 0
        self._next = self._take()
        self._ready = b""

    def read(self, size: int, /) -> bytes:
        if not self._ready and self._next:
            self._ready = self._open()
        given, self._ready = self._ready[:size], self._ready[size:]
        return given

    def _take(self) -> bytes:
        wanted = _CHUNK_BYTES + _TAG_BYTES
        parts: list[bytes] = []
        while wanted and (part := self._source.read(wanted)):
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)

    def _open(self) -> bytes:
        sealed, self._next = self._next, self._take()
        nonce = _nonce(self._prefix, self._number, last=not self._next)
        try:
            chunk = self._cipher.decrypt(nonce, sealed, self._head)
        except InvalidTag as error:
            why = (
                "the passphrase is another one"
                if self._number == 0
                else "it was changed or is not whole; take another one"
            )
            raise SavingError(f"the backup cannot be opened: {why}") from error
        self._number += 1
        return chunk


def _key(passphrase: bytes, salt: bytes, cost: tuple[int, int, int]) -> bytes:
    n, r, p = cost
    return Scrypt(salt=salt, length=_KEY_BYTES, n=2**n, r=r, p=p).derive(passphrase)


def _nonce(prefix: bytes, number: int, *, last: bool) -> bytes:
    assert number < _CHUNKS_MAX, "the counter in the nonce must not begin again"
    return prefix + number.to_bytes(4, "big") + (b"\1" if last else b"\0")
