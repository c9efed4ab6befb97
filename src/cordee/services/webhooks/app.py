"""The webhooks service as a web application."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI

from cordee.config.sections.services import Webhooks
from cordee.services.base import errors
from cordee.services.base.body import BodyLimit
from cordee.services.base.database import Database, DatabaseError
from cordee.services.base.description import describe
from cordee.services.base.ground import Ground
from cordee.services.base.inbox import Inbox
from cordee.services.base.living import beside, opened
from cordee.services.base.outbox import Outbox
from cordee.services.webhooks import hearing, migrations
from cordee.services.webhooks.delivering import Deliverer
from cordee.services.webhooks.routes import belongings, deliveries, endpoints
from cordee.services.webhooks.rules.addresses import networks
from cordee.services.webhooks.rules.target import Reach
from cordee.services.webhooks.secrets_made import seal_of
from cordee.services.webhooks.sending import Limits, Sender
from cordee.services.webhooks.service import Service
from cordee.services.webhooks.tables import inbox as inbox_tables
from cordee.services.webhooks.tables import metadata, outbox, outbox_lease

NAME = "webhooks"
HISTORY = Path(str(migrations.__file__)).parent


def create(settings: Webhooks, database: Database, ground: Ground, context: ssl.SSLContext | None = None) -> FastAPI:
    """The application. `context`: whom deliveries trust, None for the system's authorities. Starting it migrates the database;
    stopping it closes it. Raises DatabaseError for settings that cannot be meant."""
    reach = reach_of(settings)
    limits = Limits(settings.connect_s, settings.answer_s, settings.answer_bytes_max)
    service = Service(
        settings, database, Outbox(NAME, outbox, outbox_lease, settings.outbox), seal_of(ground.secret), reach,
        Sender(reach, limits, context), ground.now,
    )  # fmt: skip
    inbox = Inbox(NAME, database, inbox_tables, settings.inbox, ground.now)
    hearing.subscribe(inbox, service)
    deliverer = Deliverer(service)

    @contextlib.asynccontextmanager
    async def living(_app: FastAPI) -> AsyncIterator[None]:
        async with opened(database, HISTORY, metadata, settings.database.migrate_wait_s):
            hears = () if ground.broker is None else (inbox.run(ground.broker),)
            async with beside(service.outbox.run(database, ground.publisher, ground.now), deliverer.run(), *hears):
                yield

    app = FastAPI(
        title="Cordée webhooks", version="1", lifespan=living, docs_url=None, redoc_url=None, redirect_slashes=False,
        openapi_url="/v1/webhooks/openapi.json",
    )  # fmt: skip
    app.state.service = service
    app.state.ground = ground
    app.state.inbox = inbox
    app.add_middleware(BodyLimit, bytes_max=settings.body_bytes_max)
    errors.install(app)
    for router in (endpoints.router, deliveries.router, belongings.router):
        app.include_router(router)
    describe(app)
    return app


def reach_of(settings: Webhooks) -> Reach:
    """Where deliveries may go. Raises DatabaseError."""
    if settings.lease_s <= settings.answer_s + settings.connect_s:
        raise DatabaseError(
            f"services.webhooks.lease_s is {settings.lease_s:g}, but a delivery may take answer_s, {settings.answer_s:g}: "
            "set it well above."
        )
    try:
        return Reach(frozenset(settings.ports), networks(settings.allow_private))
    except ValueError as error:
        raise DatabaseError(f"services.webhooks.allow_private: {error}; name addresses or networks.") from error
