"""What gateways follow of accounts: who there is now, in pages by revision, answered at once when something is new, else when it is.

A gateway that has read all of it identifies everybody by itself, so accounts may be away for as long as signing keys are published. A page
tells how its objects are now, so what changed twice in between is told once.
"""

from __future__ import annotations

import asyncio

from sqlalchemy import null, select
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.domain.caller import ORDINARY
from cordee.services.accounts.rules.rights import Role, scopes_of
from cordee.services.accounts.secrets_made import digest
from cordee.services.accounts.service import Service
from cordee.services.accounts.store import changes
from cordee.services.accounts.store.changes import Clock, Kind
from cordee.services.accounts.store.people import allowances_of, bounds_of
from cordee.services.accounts.store.programs import standing_of
from cordee.services.accounts.tables import api_keys, applications, tenants, users
from cordee.wire.credentials import FORMAT, Ended, Key, Page, Principal, SigningKey, Tenant

MARK_DIGITS = 16  # of the hash of a password's hash: it tells one password from the next, and nothing else
ENDED_MARGIN_S = 60.0  # clocks of hosts may differ


class Feed:
    """One per process: whoever waits looks at the database together."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._looking = asyncio.Lock()
        self._looked_at = float("-inf")
        self._clock: Clock | None = None

    async def page(self, epoch: str, after: int, since: int, wait_s: float, form: int) -> Page:
        """What has changed after `after`, or an empty page when nothing does within `wait_s`. `epoch`: the one that was told last; ""
        at first. `since`: the newest revision when the asker began: what was gone by then it never knew. `form`: the format that it
        understands. Raises AwayError."""
        service = self._service
        await service.mint.keep()
        until = _time() + wait_s
        while _life(clock := await self._look(), form) == epoch and clock.revision == after and _time() < until:
            await asyncio.sleep(min(service.settings.feed.look_s, max(0.0, until - _time())))
        async with service.database.reading() as on:
            clock = await changes.clock(on)
            knows = epoch == _life(clock, form) and clock.floor <= max(after, since) and after <= clock.revision
            begin = after if knows or (after == 0 and epoch == "") else 0
            changed = await changes.after(on, begin, service.settings.feed.page_max)
            told = Told() if changed is None else await _told(on, changed.names, service, form)
        revision = clock.revision if changed is None else changed.revision
        keys = [SigningKey(str(one["kid"]), str(one["x"])) for one in service.mint.published()]
        has_more = revision < clock.revision
        return Page(
            _life(clock, form), begin, revision, service.settings.issuer, service.settings.audience, clock.revision,
            begin != after, has_more, keys, told.keys, told.principals, told.tenants, told.ended, told.gone,
            service.settings.feed.ended_kept_s,
        )  # fmt: skip

    async def _look(self) -> Clock:
        async with self._looking:
            if self._clock is None or _time() - self._looked_at >= self._service.settings.feed.look_s:
                async with self._service.database.reading() as on:
                    self._clock = await changes.clock(on)
                self._looked_at = _time()
            return self._clock


class Told:
    """What a page holds."""

    __slots__ = ("ended", "gone", "keys", "principals", "tenants")

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self.principals: list[Principal] = []
        self.tenants: list[Tenant] = []
        self.ended: list[Ended] = []
        self.gone: list[str] = []


def _life(clock: Clock, form: int) -> str:
    """What the epoch is called in this format: who learns another one begins anew, and hears what it was not told before."""
    return clock.epoch if form < FORMAT else f"{clock.epoch}.{FORMAT}"


async def _told(on: AsyncConnection, names: dict[Kind, list[str]], service: Service, form: int) -> Told:
    told = Told()
    told.tenants = [
        Tenant(row.id, allowances_of(row.allowances), bounds_of(row.bounds))
        for row in await on.execute(select(tenants).where(tenants.c.id.in_(names[Kind.TENANT])))
    ]
    told.principals = [*await _users(on, names[Kind.PRINCIPAL]), *await _applications(on, names[Kind.PRINCIPAL])]
    told.keys = [
        Key(
            row.id, row.digest, row.tenant_id, row.user_id or row.application_id, list(row.scopes), allowances_of(row.allowances),
            row.expires_at, standing_of(row.standing),
        )
        for row in await on.execute(select(api_keys).where(api_keys.c.id.in_(names[Kind.KEY])))
    ]  # fmt: skip
    if form < FORMAT:
        await _leave_out(on, told)
    life_s = service.settings.tokens.access_s + ENDED_MARGIN_S
    told.ended = [
        Ended(family, at + life_s) for family, at in (await changes.families_ended(on, names[Kind.FAMILY])).items()
    ]
    there = {one.id for one in told.tenants} | {one.id for one in told.principals} | {one.id for one in told.keys}
    asked = {name for kind in (Kind.TENANT, Kind.PRINCIPAL, Kind.KEY) for name in names[kind]}
    told.gone = sorted(asked - there)
    return told


async def _leave_out(on: AsyncConnection, told: Told) -> None:
    """All that a gateway of before could not keep to: to it they are gone, because what must stay would leave through it."""
    bounded = set((await on.execute(select(tenants.c.id).where(tenants.c.bounds.is_not(null())))).scalars())
    told.tenants = [one for one in told.tenants if one.id not in bounded]
    told.principals = [one for one in told.principals if one.tenant not in bounded]
    told.keys = [one for one in told.keys if one.tenant not in bounded and one.standing == ORDINARY]


async def _users(on: AsyncConnection, names: list[str]) -> list[Principal]:
    joined = select(users, tenants.c.is_operator).join(tenants, tenants.c.id == users.c.tenant_id)
    return [
        Principal(
            row.id, row.tenant_id, sorted(scopes_of(Role(row.role), row.is_operator)), _mark(row.password_hash), row.is_active
        )
        for row in await on.execute(joined.where(users.c.id.in_(names)))
    ]  # fmt: skip


async def _applications(on: AsyncConnection, names: list[str]) -> list[Principal]:
    return [
        Principal(row.id, row.tenant_id, list(row.scopes), _mark(row.secret_digest or ""))
        for row in await on.execute(select(applications).where(applications.c.id.in_(names)))
    ]


def _mark(stored: str) -> str:
    return digest(f"mark:{stored}")[:MARK_DIGITS]


def _time() -> float:
    return asyncio.get_running_loop().time()
