"""What every service stands on: one of each per process, put together by whoever starts it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cordee.services.base.broker import Broker
from cordee.services.base.door import Door
from cordee.services.base.outbox import Publisher


@dataclass(frozen=True, slots=True)
class Ground:
    """`data`: the data directory. `secret`: the installation's, with which callers are vouched for (wire/vouch.py). `door`: the
    gateways, for what a service asks on behalf of a caller. `publisher`: where events go. `now`: seconds of the epoch. `broker`:
    where the events of all services come from; None: nobody listens in this process."""

    data: Path
    secret: bytes
    door: Door
    publisher: Publisher
    now: Callable[[], float]
    broker: Broker | None = None
