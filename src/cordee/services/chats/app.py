"""The chats service as a web application: conversations, responses, and what stands behind both."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI

from cordee.config.sections.services import Chats
from cordee.services.base import errors
from cordee.services.base.body import BodyLimit
from cordee.services.base.database import Database
from cordee.services.base.description import describe
from cordee.services.base.ground import Ground
from cordee.services.base.living import beside, opened
from cordee.services.base.outbox import Outbox
from cordee.services.chats import migrations
from cordee.services.chats.log import Log
from cordee.services.chats.projections import of_conversations
from cordee.services.chats.recorder import Recorder
from cordee.services.chats.responses import routes as responses
from cordee.services.chats.responses.projection import Responses
from cordee.services.chats.responses.service import living as responding
from cordee.services.chats.routes import chats, conversations, leaving
from cordee.services.chats.service import Service
from cordee.services.chats.tables import metadata, outbox, outbox_lease

NAME = "chats"
HISTORY = Path(str(migrations.__file__)).parent


def log_of(settings: Chats) -> Log:
    """The log with all that is read of it."""
    return Log((*of_conversations(settings.searched_characters), Responses()))


def spool_of(data: Path) -> Path:
    """Where answers wait for the database, in the data directory."""
    return data / "services" / "spool" / NAME


def create(settings: Chats, database: Database, ground: Ground) -> FastAPI:
    """The application. Starting it migrates the database; stopping it closes it."""
    log = log_of(settings)
    service = Service(
        settings, database, ground, log, Outbox(NAME, outbox, outbox_lease, settings.outbox),
        Recorder(log, database, spool_of(ground.data), settings.spool, ground.now),
    )  # fmt: skip

    @contextlib.asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        with contextlib.closing(service.recorder):
            async with (
                opened(database, HISTORY, metadata, settings.database.migrate_wait_s),
                beside(service.outbox.run(database, ground.publisher, ground.now), service.recorder.run()),
                responding(service) as app.state.responses,
            ):
                yield

    app = FastAPI(
        title="Cordée chats", version="1", lifespan=living, docs_url=None,
        redoc_url=None, redirect_slashes=False, openapi_url="/v1/chats/openapi.json",
    )  # fmt: skip
    app.state.service = service
    app.state.ground = ground
    app.add_middleware(BodyLimit, bytes_max=settings.body_bytes_max)
    errors.install(app)
    # `leaving` before `chats`: its words in the path are no conversations.
    for router in (conversations.router, leaving.router, chats.router, responses.router):
        app.include_router(router)
    describe(app)
    return app
