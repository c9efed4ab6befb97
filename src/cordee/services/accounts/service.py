"""What all that accounts do is done with: one of each per process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.config.sections.services import Accounts
from cordee.domain.caller import UNBOUNDED, Bounds
from cordee.domain.record import record
from cordee.services.accounts.passwords import Hasher
from cordee.services.accounts.rules.rights import Role
from cordee.services.accounts.store import changes
from cordee.services.accounts.tokens import Mint
from cordee.services.base.database import Database
from cordee.services.base.errors import Problem
from cordee.services.base.outbox import Outbox


@record
class Actor:
    """Who does something: a user, or an application for itself (`role` None). `scopes`: of the key or token that was shown, and
    still held. `family`: the signing in, if it was one; `key`: the API key, if it was one; `bounds`: what keys it makes do not get
    beyond."""

    id: str
    tenant: str
    scopes: frozenset[str]
    role: Role | None
    family: str | None = None
    key: str | None = None
    bounds: Bounds = UNBOUNDED

    def need(self, scope: str) -> None:
        """Raises Problem (403)."""
        if scope not in self.scopes:
            raise Problem(403, f"This needs the scope {scope}, which this key or token does not hold.", code="no_scope")


@dataclass(frozen=True, slots=True)
class Service:
    """The parts. `now`: seconds of the epoch."""

    settings: Accounts
    database: Database
    outbox: Outbox
    hasher: Hasher
    mint: Mint
    now: Callable[[], float]

    @contextlib.asynccontextmanager
    async def changing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that may change who there is: at its end, what gateways follow is numbered. Raises AwayError."""
        async with self.database.writing() as on:
            yield on
            await changes.number(on, self.now())

    async def tell(
        self, on: AsyncConnection, what: str, subject: str, tenant: str, by: str, data: Mapping[str, Any] | None = None
    ) -> None:
        """An event of what is being done in the transaction of `on`; it is the audit trail as well."""
        await self.outbox.append(on, self.now(), what, subject, tenant, {"by": by, **(data or {})})
