"""What every part of chats works with, put together once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cordee.config.sections.services import Chats
from cordee.services.base.database import Database
from cordee.services.base.ground import Ground
from cordee.services.base.outbox import Outbox
from cordee.services.base.principal import Principal
from cordee.services.chats.log import Log, Owner
from cordee.services.chats.recorder import Recorder

READ, WRITE = "chats.read", "chats.write"  # the scopes


@dataclass(frozen=True, slots=True)
class Service:
    """One per process. `now`: seconds of the epoch."""

    settings: Chats
    database: Database
    ground: Ground
    log: Log
    outbox: Outbox
    recorder: Recorder

    @property
    def now(self) -> Callable[[], float]:
        return self.ground.now


def owner_of(principal: Principal) -> Owner:
    """Whose conversations they see: their own; with a key that belongs to the tenant alone, those made with such keys."""
    return Owner(principal.tenant, principal.subject)
