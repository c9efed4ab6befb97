"""The port behind which a broker is: what it hands over, and what it is asked for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Protocol

from cordee.domain.record import record
from cordee.services.base.outbox import Event


@record
class Delivered:
    """What a broker hands over, and how it is told that it was taken."""

    body: bytes
    take: Callable[[], Awaitable[object]]


class Carrier(Protocol):
    """One connection to a broker. It may raise anything, and is closed and forgotten then."""

    async def open(self, consumers: Sequence[str]) -> None:
        """Connect, and see to it that each of `consumers` has a place."""
        ...

    async def send(self, event: Event, body: bytes) -> None:
        """Returns when the broker keeps it."""
        ...

    def deliveries(self, consumer: str) -> AsyncGenerator[Delivered]:
        """What `consumer` has not taken yet, in order; the next one only after this one was taken."""
        ...

    async def close(self) -> None: ...
