"""The journal as a gateway uses it: its own memory, and the store that all share, where there is one and it answers.

What stands in both is told to both; the memory answers when the store does not, for the calls of this gateway.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Sequence
from dataclasses import replace

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
from cordee.ports import AwayError, Journal

log = logging.getLogger(__name__)
LOCAL_MAX = 65_536  # calls that are remembered as known here only; beyond, a repeat of the oldest does not say so


class Journals:
    """Port Journal over `own` and `shared`. `is_shared`: there is a store at all, whether it answers or not."""

    def __init__(self, own: Journal, shared: Journal | None) -> None:
        self._own = own
        self._shared = shared
        self.is_known = shared is None  # whether the others know that this gateway lives
        self._local: OrderedDict[str, None] = OrderedDict()  # calls whose keys hold at this gateway only

    @property
    def is_shared(self) -> bool:
        return self._shared is not None

    async def reserve(self, tenant: str, key: str, digest: str, call_id: str, keep_s: float) -> Reservation:
        return (await self.reserve_and_say(tenant, key, digest, call_id, keep_s))[0]

    async def reserve_and_say(
        self, tenant: str, key: str, digest: str, call_id: str, keep_s: float
    ) -> tuple[Reservation, bool]:
        """The second says whether it holds at all gateways, or at this one only."""
        mine = await self._own.reserve(tenant, key, digest, call_id, keep_s)
        if not isinstance(mine, Fresh) or self._shared is None:
            return mine, not (isinstance(mine, Same) and mine.call_id in self._local)
        try:
            theirs = await self._shared.reserve(tenant, key, digest, call_id, keep_s)
        except AwayError:
            self._holds_here(call_id)
            return mine, False
        match theirs:
            case Fresh():
                pass
            case Same() | Conflict() | Full():
                await self._own.release(tenant, key, call_id)
        return theirs, True

    async def only_here(self, tenant: str, key: str, call_id: str) -> None:
        """The key goes on standing for this call, but only at this gateway."""
        self._holds_here(call_id)
        if self._shared is not None:
            await _heard(self._shared.release(tenant, key, call_id))

    def _holds_here(self, call_id: str) -> None:
        self._local[call_id] = None
        if len(self._local) > LOCAL_MAX:
            self._local.popitem(last=False)

    async def release(self, tenant: str, key: str, call_id: str) -> None:
        self._local.pop(call_id, None)
        await self._own.release(tenant, key, call_id)
        if self._shared is not None:
            await _heard(self._shared.release(tenant, key, call_id))

    async def begin(self, call: KeptCall, keep_s: float) -> None:
        """Raises AwayError when only this gateway remembers it."""
        await self._own.begin(call, keep_s)
        if self._shared is not None:
            await self._shared.begin(call, keep_s)

    async def note(self, call_id: str, replica: str | None = None, charged: int | None = None) -> None:
        await self._own.note(call_id, replica, charged)
        if self._shared is not None:
            await _heard(self._shared.note(call_id, replica, charged))

    async def adopt(self, call_id: str, seen: str, owner: str) -> bool:
        """While the store is away nobody else can be asked."""
        mine = await self._own.adopt(call_id, seen, owner)
        if self._shared is None:
            return mine
        try:
            return await self._shared.adopt(call_id, seen, owner)
        except AwayError:
            return mine

    async def complete(self, call_id: str, answer: KeptTokens | KeptBytes | None, keep_s: float) -> None:
        await self._own.complete(call_id, answer, keep_s)
        if self._shared is not None:
            await _heard(self._shared.complete(call_id, answer, keep_s))

    async def forget(self, call_id: str) -> None:
        await self._own.forget(call_id)
        if self._shared is not None:
            await _heard(self._shared.forget(call_id))

    async def find(self, call_id: str) -> Found | None:
        """Raises AwayError when this gateway does not know the call and the store cannot be asked."""
        mine = await self._own.find(call_id)
        if self._shared is None or (mine is not None and mine.answer is not None):
            return mine
        try:
            theirs = await self._shared.find(call_id)
        except AwayError:
            if mine is None:
                raise
            return mine
        if theirs is None or mine is None:
            return theirs or mine
        # What the store missed while it was away is not lost: this gateway has charged for it, or knows who answers.
        charged = mine.charged if theirs.charged is None else max(theirs.charged, mine.charged or 0)
        return replace(theirs, replica=theirs.replica or mine.replica, charged=charged)

    async def alive(self, owner: str, for_s: float) -> None:
        """`is_known` says whether all gateways have heard it."""
        await self._own.alive(owner, for_s)
        if self._shared is None:
            return
        try:
            await self._shared.alive(owner, for_s)
        except AwayError as error:
            log.debug("the store was not told: %s", error)
            self.is_known = False
        else:
            self.is_known = True

    async def add_receipts(self, receipts: Sequence[Receipt], keep_s: float) -> None:
        if self._shared is not None:
            await self._shared.add_receipts(receipts, keep_s)

    async def receipts(self, call_id: str) -> Sequence[Receipt]:
        return await self._shared.receipts(call_id) if self._shared is not None else ()


async def _heard(told: Awaitable[None]) -> None:
    """What the store misses while it is away is missed."""
    try:
        await told
    except AwayError as error:
        log.debug("the store was not told: %s", error)
