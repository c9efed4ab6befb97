"""A content comes in: counted, hashed, looked at, scanned, encrypted and stored in one pass, a block at a time, in constant memory.

Before its first byte is stored it is written into the book (store/blobs.py), with a lease that is renewed while bytes come; it becomes
somebody's in the transaction of whoever wanted it. Whatever happens in between, a crash included, leaves something that the sweep
finds in the book and removes.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.domain.record import record
from cordee.services.base.database import AwayError
from cordee.services.base.errors import Problem
from cordee.services.base.identifiers import new
from cordee.services.files.cipher import PIECE_BYTES, Lock
from cordee.services.files.records import Blob
from cordee.services.files.rules.kinds import HEAD_BYTES
from cordee.services.files.scan import Scan, scanning
from cordee.services.files.service import Service
from cordee.services.files.storage import StorageAwayError
from cordee.services.files.store import blobs

BLOCK_BYTES = (
    16 * PIECE_BYTES
)  # worked on at once, in a thread: hashing and encrypting a block takes about a millisecond
_RENEWALS = 3  # of a lease, in its time
RETRY_AFTER_S = 5
_log = logging.getLogger(__name__)


@record
class Wanted:
    """`param`: the parameter as which it comes; `bytes_max`: more than this is `too_large`. `look` sees the first bytes and may
    raise Problem; `is_scanned`: it is shown to the virus scanner; `has_md5`: its MD5 is asked for as well."""

    param: str
    bytes_max: int
    too_large: Problem
    look: Callable[[bytes], None] | None = None
    is_scanned: bool = True
    has_md5: bool = False


@record
class Taken:
    """A content that is whole and durable, and nobody's yet. Digests in hexadecimal; `md5` is "" where it was not asked for."""

    name: str
    size: int
    sha256: str
    md5: str
    head: bytes


@contextlib.asynccontextmanager
async def taking(service: Service, tenant: str, content: AsyncIterator[bytes], wanted: Wanted) -> AsyncIterator[Taken]:
    """Take it in; in the block it has to be made somebody's (`keep`). Unless it is then, it is removed. Raises Problem,
    AwayError, StorageAwayError, StorageFullError, and what `content` raises."""
    name = new("blob")
    lock, blob = None, Blob(name, 0, None, None)
    if service.settings.encryption.enabled:
        lock, wrapped = service.keys.new_lock(name)
        blob = Blob(name, 0, service.keys.newest, wrapped)
    async with service.database.writing() as on:
        await blobs.begin(on, blob, tenant, service.now() + service.settings.writing_s)
    intake = _Intake(service, name, lock, wanted)
    try:
        async with contextlib.AsyncExitStack() as stack:
            scan = None
            if wanted.is_scanned:
                scan = await stack.enter_async_context(scanning(service.settings.scanner, wanted.param))
            stored = await stack.enter_async_context(contextlib.aclosing(intake.stored(content, scan)))
            await service.storage.write(name, stored)
        yield intake.taken()
    except BaseException:  # also when the request is cancelled: what nobody wants must not stay
        await drop(service, name)
        raise


async def keep(on: AsyncConnection, taken: Taken) -> None:
    """It becomes somebody's in this transaction. Raises Problem (503)."""
    if not await blobs.keep(on, taken.name, taken.size):
        raise _too_slow()


async def remove(service: Service, names: list[str]) -> None:
    """The bytes of what is nobody's any more, as far as that can be done now; the sweep does the rest."""
    done = []
    try:
        for name in names:
            await service.storage.delete(name)
            done.append(name)
    except StorageAwayError as error:
        _log.warning("contents that are nobody's stay for now: %s", error)
    try:
        async with service.database.writing() as on:
            await blobs.forget(on, done)
    except AwayError as error:
        _log.warning("contents that are gone stay in the book for now: %s", error)


async def drop(service: Service, name: str) -> None:
    """Remove what has come in, unless it has become somebody's."""
    try:
        async with service.database.writing() as on:
            is_nobodys = await blobs.give_up(on, name)
    except AwayError as error:
        _log.warning("half a content stays for now: %s", error)
    else:
        if is_nobodys:
            await remove(service, [name])


class _Intake:
    """One content on its way."""

    def __init__(self, service: Service, name: str, lock: Lock | None, wanted: Wanted) -> None:
        self._service = service
        self._name = name
        self._lock = lock
        self._wanted = wanted
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False) if wanted.has_md5 else None
        self._size = 0
        self._head = b""
        self._renew_at = service.now() + service.settings.writing_s / _RENEWALS

    async def stored(self, content: AsyncIterator[bytes], scan: Scan | None) -> AsyncGenerator[bytes, None]:
        """What is to be stored of `content`."""
        waiting = None
        async for block in _blocks(content):
            if waiting is not None:
                yield await self._through(waiting, scan, has_last=False)
            waiting = block
        yield await self._through(bytearray() if waiting is None else waiting, scan, has_last=True)
        if scan is not None:
            await scan.verdict()

    def taken(self) -> Taken:
        md5 = "" if self._md5 is None else self._md5.hexdigest()
        return Taken(self._name, self._size, self._sha256.hexdigest(), md5, self._head)

    async def _through(self, block: bytearray, scan: Scan | None, has_last: bool) -> bytes:
        first, is_first = self._size // PIECE_BYTES, self._size == 0
        self._size += len(block)
        if self._size > self._wanted.bytes_max:
            raise self._wanted.too_large
        if is_first:
            self._head = bytes(block[:HEAD_BYTES])
            if self._wanted.look is not None:
                self._wanted.look(self._head)
        if scan is not None:
            await scan.feed(block)
        await self._renew()
        return await self._service.work(partial(self._worked, block, first, has_last))

    def _worked(self, block: bytearray, first: int, has_last: bool) -> bytes:
        self._sha256.update(block)
        if self._md5 is not None:
            self._md5.update(block)
        return bytes(block) if self._lock is None else self._lock.seal(block, first, has_last)

    async def _renew(self) -> None:
        now, settings = self._service.now(), self._service.settings
        if now < self._renew_at:
            return
        self._renew_at = now + settings.writing_s / _RENEWALS
        try:
            async with self._service.database.writing() as on:
                is_mine = await blobs.go_on(on, self._name, now + settings.writing_s)
        except AwayError as error:
            _log.warning("an upload goes on without its lease being renewed: %s", error)
        else:
            if not is_mine:
                raise _too_slow()


async def _blocks(content: AsyncIterator[bytes]) -> AsyncIterator[bytearray]:
    """`content` in blocks of BLOCK_BYTES; the last one may be shorter."""
    block = bytearray()
    async for piece in content:
        block += piece
        while len(block) >= BLOCK_BYTES:
            rest = block[BLOCK_BYTES:]
            del block[BLOCK_BYTES:]
            yield block
            block = rest
    if block:
        yield block


def _too_slow() -> Problem:
    return Problem(
        503, "Nothing came of this upload for so long that it was given up; try again.", code="upload_given_up",
        retry_after_s=RETRY_AFTER_S,
    )  # fmt: skip
