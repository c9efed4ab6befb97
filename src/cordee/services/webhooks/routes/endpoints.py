"""OpenAI's webhook endpoints: made, shown, changed, tried, removed."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Request

from cordee.services.base.errors import Problem, documented, not_found
from cordee.services.base.identifiers import new
from cordee.services.base.paging import Asked, Listing, taken
from cordee.services.base.principal import Asking, Principal
from cordee.services.base.strict import Router
from cordee.services.webhooks import secrets_made
from cordee.services.webhooks.delivering import attempt
from cordee.services.webhooks.records import Endpoint, Owner
from cordee.services.webhooks.routes.shapes import (
    Change,
    EndpointId,
    Make,
    Removed,
    Rotate,
    Shown,
    ShownWithSecret,
    TestResult,
    Try,
    Types,
    shown,
)
from cordee.services.webhooks.rules.target import accepted
from cordee.services.webhooks.rules.words import EVENT_TYPES, sample
from cordee.services.webhooks.service import Service
from cordee.services.webhooks.store import endpoints

READ, WRITE = "webhooks.read", "webhooks.write"
PREFIX = "wh"
OLD_SECRET_S = 86_400.0  # the 24 hours in the parameter's name
KIND = "webhook endpoint"
router = Router(prefix="/v1", responses=documented(400, 401, 403, 404, 409, 413, 503), tags=["webhooks"])


def _service(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


Serving = Annotated[Service, Depends(_service)]


def owner_of(asking: Principal, scope: str) -> Owner:
    """Raises Problem (403)."""
    asking.need(scope)
    return Owner(asking.tenant, asking.subject)


@router.get("/webhook_event_types")
async def event_types(asking: Asking) -> Types:
    """What can be told."""
    asking.need(READ)
    return Types(data=list(EVENT_TYPES))


@router.post("/webhook_endpoints")
async def make(asked: Make, asking: Asking, service: Serving) -> ShownWithSecret:
    """Make an endpoint. Its secret is shown this once."""
    owner = owner_of(asking, WRITE)
    accepted(asked.url, service.reach)
    secret, now, id = secrets_made.new_secret(), service.now(), new(PREFIX)
    one = Endpoint(
        id, owner, asked.name, asked.url, tuple(dict.fromkeys(asked.event_types)), service.seal.close(id, secret.encode()),
        secrets_made.hint_of(secret), now, now,
    )  # fmt: skip
    most = service.settings.endpoints_per_tenant_max
    async with service.database.writing() as on:
        if await endpoints.count(on, owner.tenant) >= most:
            raise Problem(
                409, f"There are {most} webhook endpoints already; remove one first.", code="too_many_endpoints"
            )
        await endpoints.add(on, one)
        await service.tell(on, "endpoint.created", one, {})
    return ShownWithSecret(**shown(one).model_dump(), signing_secret=secret)


@router.get("/webhook_endpoints")
async def page(asked: Asked, asking: Asking, service: Serving) -> Listing[Shown]:
    """One's endpoints."""
    owner = owner_of(asking, READ)
    async with service.database.reading() as on:
        found, has_more = taken([shown(one) for one in await endpoints.page(on, owner, asked)], asked)
    return Listing[Shown](
        data=found, first_id=found[0].id if found else None, last_id=found[-1].id if found else None, has_more=has_more
    )


@router.get("/webhook_endpoints/{id}")
async def retrieve(id: EndpointId, asking: Asking, service: Serving) -> Shown:
    """One endpoint."""
    owner = owner_of(asking, READ)
    return shown(await own(service, owner, id))


@router.post("/webhook_endpoints/{id}")
async def change(id: EndpointId, asked: Change, asking: Asking, service: Serving) -> Shown:
    """Change an endpoint; one that was given up is switched on again."""
    owner = owner_of(asking, WRITE)
    if asked.url is not None:
        accepted(asked.url, service.reach)
    async with service.database.writing() as on:
        before = await endpoints.of(on, owner, id, is_held=True)
        if before is None:
            raise not_found(KIND, id)
        types = before.event_types if asked.event_types is None else tuple(dict.fromkeys(asked.event_types))
        made = replace(before, name=asked.name or before.name, url=asked.url or before.url, event_types=types)
        made = replace(made, disabled_at=None, failing_since=None)
        if made != before:
            made = replace(made, updated_at=service.now())
            await endpoints.change(on, made)
            await service.tell(on, "endpoint.changed", made, {})
    return shown(made)


@router.delete("/webhook_endpoints/{id}")
async def remove(id: EndpointId, asking: Asking, service: Serving) -> Removed:
    """Remove an endpoint and its deliveries."""
    owner = owner_of(asking, WRITE)
    async with service.database.writing() as on:
        before = await endpoints.of(on, owner, id, is_held=True)
        if before is None or not await endpoints.remove(on, owner, id):
            raise not_found(KIND, id)
        await service.tell(on, "endpoint.deleted", before, {})
    return Removed(id=id)


@router.post("/webhook_endpoints/{id}/rotate_secret")
async def rotate(id: EndpointId, asking: Asking, service: Serving, asked: Rotate | None = None) -> ShownWithSecret:
    """A new secret, shown this once; with the old one beside it for a day, if asked for."""
    owner, now, secret = owner_of(asking, WRITE), service.now(), secrets_made.new_secret()
    is_kept = asked is not None and asked.keep_old_secret_active_for_24_hours
    async with service.database.writing() as on:
        before = await endpoints.of(on, owner, id, is_held=True)
        if before is None:
            raise not_found(KIND, id)
        made = replace(
            before, sealed=service.seal.close(id, secret.encode()), hint=secrets_made.hint_of(secret), updated_at=now,
            previous=before.sealed if is_kept else None, previous_until=now + OLD_SECRET_S if is_kept else None,
        )  # fmt: skip
        await endpoints.change(on, made)
        await service.tell(on, "endpoint.rotated", made, {})
    return ShownWithSecret(**shown(made).model_dump(), signing_secret=secret)


@router.post("/webhook_endpoints/{id}/test")
async def attempt_now(id: EndpointId, asked: Try, asking: Asking, service: Serving) -> TestResult:
    """Send a sample, once, and say what the server answered. One that takes it is switched on again if it was given up."""
    owner = owner_of(asking, WRITE)
    one = await own(service, owner, id)
    told = sample(new("event"), asked.event_type, service.now())
    tried = await attempt(service, one, told.id, told.body)
    if not tried.status:
        raise Problem(400, f"url: nobody took the sample: {tried.why}.", "url", "endpoint_unreachable")
    if tried.is_taken and (one.disabled_at is not None or one.failing_since is not None):
        async with service.database.writing() as on:
            await endpoints.mark(on, one.id, None, None)
    return TestResult(webhook_endpoint_id=id, event_type=told.type, status_code=tried.status)


async def own(service: Service, owner: Owner, id: str) -> Endpoint:
    """Raises Problem (404)."""
    async with service.database.reading() as on:
        found = await endpoints.of(on, owner, id)
    if found is None:
        raise not_found(KIND, id)
    return found
