"""Applications are registered, changed and removed. One never holds more than who registered it."""

from __future__ import annotations

import dataclasses

from cordee.domain.record import record
from cordee.services.accounts import secrets_made
from cordee.services.accounts.records import Application
from cordee.services.accounts.rules.grants import fault_of_redirect
from cordee.services.accounts.rules.rights import Scope, beyond
from cordee.services.accounts.service import Actor, Service
from cordee.services.accounts.store import people, programs
from cordee.services.base.errors import Problem, conflict, not_found
from cordee.services.base.identifiers import new
from cordee.services.base.paging import Page


@record
class Wanted:
    """An application to be. A confidential one keeps a secret; a program on somebody's device cannot."""

    name: str
    scopes: frozenset[str]
    redirect_uris: tuple[str, ...]
    is_confidential: bool


async def add_application(service: Service, actor: Actor, wanted: Wanted) -> tuple[Application, str | None]:
    """The application and its secret, which is never seen again. Raises Problem."""
    actor.need(Scope.APPLICATIONS_WRITE)
    _check(actor, wanted.scopes, wanted.redirect_uris)
    secret = secrets_made.make(secrets_made.CLIENT) if wanted.is_confidential else None
    one = Application(
        new("app"), actor.tenant, wanted.name, wanted.scopes, wanted.redirect_uris,
        secrets_made.digest(secret) if secret else None, service.now(),
    )  # fmt: skip
    async with service.changing() as on:
        await people.hold_tenant(on, actor.tenant)
        count = await programs.count_applications(on, actor.tenant)
        if count >= service.settings.applications_per_tenant_max:
            raise conflict(f"This tenant has {count} applications, the most there can be; remove some first.")
        await programs.add_application(on, one)
        await service.tell(on, "application.created", one.id, one.tenant, actor.id, {"scopes": sorted(one.scopes)})
    return one, secret


async def application_seen(service: Service, actor: Actor, application_id: str) -> Application:
    """Raises Problem."""
    actor.need(Scope.APPLICATIONS_READ)
    async with service.database.reading() as on:
        one = await programs.application_of(on, actor.tenant, application_id)
    if one is None:
        raise not_found("application", application_id)
    return one


async def applications_seen(service: Service, actor: Actor, page: Page) -> list[Application]:
    """One more than the page holds, if there is one."""
    actor.need(Scope.APPLICATIONS_READ)
    async with service.database.reading() as on:
        return await programs.applications_page(on, actor.tenant, page)


async def change_application(
    service: Service, actor: Actor, application_id: str, name: str | None, scopes: frozenset[str] | None,
    redirect_uris: tuple[str, ...] | None, renew_secret: bool,
) -> tuple[Application, str | None]:  # fmt: skip
    """None stays as it is. A renewed secret ends the old one at once. Raises Problem."""
    actor.need(Scope.APPLICATIONS_WRITE)
    async with service.changing() as on:
        one = await programs.application_of(on, actor.tenant, application_id)
        if one is None:
            raise not_found("application", application_id)
        # With more than the actor holds it is not theirs to change: a new secret or redirect would hand all of it to them.
        _check(actor, one.scopes if scopes is None else scopes, redirect_uris or ())
        if renew_secret and one.secret_digest is None:
            raise Problem(
                400, "renew_secret: this application has no secret; register a confidential one.", "renew_secret"
            )
        secret = secrets_made.make(secrets_made.CLIENT) if renew_secret else None
        changed = dataclasses.replace(
            one,
            name=one.name if name is None else name,
            scopes=one.scopes if scopes is None else scopes,
            redirect_uris=one.redirect_uris if redirect_uris is None else redirect_uris,
            secret_digest=secrets_made.digest(secret) if secret else one.secret_digest,
        )
        await programs.change_application(on, changed)
        await service.tell(on, "application.changed", one.id, one.tenant, actor.id, {"secret": renew_secret})
    return changed, secret


async def remove_application(service: Service, actor: Actor, application_id: str) -> None:
    """And its keys and tokens. Raises Problem."""
    actor.need(Scope.APPLICATIONS_WRITE)
    async with service.changing() as on:
        one = await programs.application_of(on, actor.tenant, application_id)
        if one is None:
            raise not_found("application", application_id)
        await programs.remove_application(on, one)
        await service.tell(on, "application.removed", one.id, one.tenant, actor.id)


def _check(actor: Actor, scopes: frozenset[str], redirect_uris: tuple[str, ...]) -> None:
    if more := beyond(scopes, actor.scopes):
        raise Problem(
            403, f"scopes: {', '.join(more)} cannot be given away by who does not hold it.", "scopes", "no_scope"
        )
    for index, uri in enumerate(redirect_uris):
        if fault := fault_of_redirect(uri):
            raise Problem(400, f"redirect_uris.{index}: {fault}.", f"redirect_uris.{index}", "invalid_redirect_uri")
