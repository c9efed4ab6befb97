"""Port Journal in the memory of one gateway: for an installation of one, and for as long as the shared store is away.

Bounded by the number of keys a tenant may have and by the bytes of what is kept; what was begun first is forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice

from cordee.domain.kept import (
    Conflict,
    Found,
    Fresh,
    Full,
    KeptBytes,
    KeptCall,
    KeptTokens,
    Receipt,
    Reservation,
    Same,
)

SWEPT_PER_STEP = 8  # expired entries dropped with each new one: more leave than come
RECEIPT_BYTES = 512  # what one is taken to occupy
ENTRY_BYTES = 1024  # of one call beside its body and its answer


class _Key:
    __slots__ = ("call_id", "digest", "until_s")

    def __init__(self, call_id: str, digest: str, until_s: float) -> None:
        self.call_id = call_id
        self.digest = digest
        self.until_s = until_s


class _Entry:
    __slots__ = ("accountant", "answer", "call", "charged", "replica", "size", "until_s")

    def __init__(self, call: KeptCall, until_s: float) -> None:
        self.call = call
        self.until_s = until_s
        self.accountant = call.owner
        self.replica = ""
        self.charged: int | None = None
        self.answer: KeptTokens | KeptBytes | None = None
        self.size = ENTRY_BYTES + len(call.body)


class MemoryJournal:
    """`now` is a monotonic clock in seconds."""

    def __init__(self, now: Callable[[], float], keys_max: int, bytes_max: int) -> None:
        self._now = now
        self._keys_max = keys_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._keys: dict[str, OrderedDict[str, _Key]] = {}
        self._calls: OrderedDict[str, _Entry] = OrderedDict()
        self._receipts: OrderedDict[str, tuple[float, list[Receipt]]] = OrderedDict()
        self._owners: dict[str, float] = {}

    async def reserve(self, tenant: str, key: str, digest: str, call_id: str, keep_s: float) -> Reservation:
        now = self._now()
        keys = self._keys.setdefault(tenant, OrderedDict())
        for old, one in list(islice(keys.items(), SWEPT_PER_STEP)):
            if one.until_s <= now:
                del keys[old]
        held = keys.get(key)
        if held is not None and held.until_s > now:
            return Same(held.call_id) if held.digest == digest else Conflict()
        keys.pop(key, None)
        if len(keys) >= self._keys_max:
            return Full()
        keys[key] = _Key(call_id, digest, now + keep_s)
        return Fresh()

    async def release(self, tenant: str, key: str, call_id: str) -> None:
        keys = self._keys.get(tenant)
        if keys is None:
            return
        held = keys.get(key)
        if held is not None and held.call_id == call_id:
            del keys[key]
        if not keys:
            del self._keys[tenant]

    async def begin(self, call: KeptCall, keep_s: float) -> None:
        self._drop(call.id)
        now = self._now()
        for old, one in list(islice(self._calls.items(), SWEPT_PER_STEP)):
            if one.until_s <= now:
                self._drop(old)
        entry = self._calls[call.id] = _Entry(call, now + keep_s)
        self._bytes += entry.size
        self._shrink()

    async def note(self, call_id: str, replica: str | None = None, charged: int | None = None) -> None:
        entry = self._calls.get(call_id)
        if entry is not None:
            entry.replica = entry.replica if replica is None else replica
            if charged is not None:
                entry.charged, entry.accountant = max(charged, entry.charged or 0), ""

    async def adopt(self, call_id: str, seen: str, owner: str) -> bool:
        entry = self._calls.get(call_id)
        if entry is None or entry.accountant != seen:
            return entry is None  # one that is forgotten is nobody else's
        entry.accountant = owner
        return True

    async def complete(self, call_id: str, answer: KeptTokens | KeptBytes | None, keep_s: float) -> None:
        entry = self._calls.get(call_id)
        if entry is None:
            return
        self._bytes -= entry.size
        entry.answer = answer
        entry.size = ENTRY_BYTES + len(entry.call.body) + _size(answer)
        entry.until_s = self._now() + keep_s
        self._bytes += entry.size
        self._shrink()

    async def forget(self, call_id: str) -> None:
        self._drop(call_id)

    async def find(self, call_id: str) -> Found | None:
        entry = self._calls.get(call_id)
        if entry is None:
            return None
        now = self._now()
        if entry.until_s <= now:
            self._drop(call_id)
            return None
        is_owned, is_accounted = (self._owners.get(one, now) > now for one in (entry.call.owner, entry.accountant))
        return Found(entry.call, entry.replica, entry.charged, entry.answer, is_owned, entry.accountant, is_accounted)

    async def alive(self, owner: str, for_s: float) -> None:
        now = self._now()
        self._owners = {name: until_s for name, until_s in self._owners.items() if until_s > now}
        self._owners[owner] = now + for_s

    async def add_receipts(self, receipts: Sequence[Receipt], keep_s: float) -> None:
        now = self._now()
        for receipt in receipts:
            found = self._receipts.get(receipt.id)
            if found is None:
                self._receipts[receipt.id] = (now + keep_s, [receipt])
            else:
                found[1].append(receipt)
        for old, (until_s, _) in list(islice(self._receipts.items(), SWEPT_PER_STEP)):
            if until_s <= now:
                del self._receipts[old]
        while len(self._receipts) * RECEIPT_BYTES > self._bytes_max:
            self._receipts.popitem(last=False)

    async def receipts(self, call_id: str) -> Sequence[Receipt]:
        until_s, found = self._receipts.get(call_id, (0.0, ()))
        return tuple(found) if until_s > self._now() else ()

    def _drop(self, call_id: str) -> None:
        entry = self._calls.pop(call_id, None)
        if entry is not None:
            self._bytes -= entry.size

    def _shrink(self) -> None:
        while self._bytes > self._bytes_max and self._calls:
            self._drop(next(iter(self._calls)))


def _size(answer: KeptTokens | KeptBytes | None) -> int:
    if answer is None:
        return 0
    return sum(map(len, answer.outputs)) if isinstance(answer, KeptTokens) else len(answer.headers) + len(answer.body)
