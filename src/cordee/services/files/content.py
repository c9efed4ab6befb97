"""A content goes out: any range of it, decrypted a block at a time."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial

from cordee.services.files.cipher import PIECE_BYTES, SEALED_BYTES, DamagedError, pieces_of, stored_size
from cordee.services.files.ingest import BLOCK_BYTES
from cordee.services.files.records import Blob
from cordee.services.files.rules.ranges import Span
from cordee.services.files.service import Service

_GROUP_BYTES = BLOCK_BYTES // PIECE_BYTES * SEALED_BYTES  # opened at once, in a thread


async def read(service: Service, blob: Blob, span: Span) -> AsyncGenerator[bytes, None]:
    """The bytes of `span`, which lies within the content. Raises DamagedError, MissingError, StorageAwayError."""
    if span.start >= span.stop:
        return
    lock = service.keys.lock_of(blob)
    if lock is None:
        async with contextlib.aclosing(service.storage.read(blob.name, span.start, span.stop)) as plain:
            async for piece in plain:
                yield piece
        return
    number, count = span.start // PIECE_BYTES, pieces_of(blob.size)
    begin = number * SEALED_BYTES
    end = min(((span.stop - 1) // PIECE_BYTES + 1) * SEALED_BYTES, stored_size(blob.size))
    skipped, left = span.start - number * PIECE_BYTES, span.stop - span.start
    async with contextlib.aclosing(service.storage.read(blob.name, begin, end)) as sealed:
        async for group in _groups(sealed):
            opened = await service.work(partial(lock.open, group, number, count))
            number += -(-len(group) // SEALED_BYTES)
            shown = opened[skipped : skipped + left]
            skipped, left = 0, left - len(shown)
            yield shown
    if left:
        raise DamagedError(f"{blob.name} ends {left} bytes too early in storage.")


async def _groups(sealed: AsyncIterator[bytes]) -> AsyncIterator[bytearray]:
    """Whole pieces; the last group ends where `sealed` does."""
    group = bytearray()
    async for part in sealed:
        group += part
        while len(group) >= _GROUP_BYTES:
            rest = group[_GROUP_BYTES:]
            del group[_GROUP_BYTES:]
            yield group
            group = rest
    if group:
        yield group
