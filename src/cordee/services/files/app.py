"""The files service as a web application."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cordee.config.sections.services import Files
from cordee.services.base import errors
from cordee.services.base.body import BodyLimit
from cordee.services.base.database import AwayError, Database
from cordee.services.base.description import describe
from cordee.services.base.ground import Ground
from cordee.services.base.living import beside, opened
from cordee.services.base.outbox import Outbox
from cordee.services.files import migrations, sweep
from cordee.services.files.cipher import DamagedError, keyring
from cordee.services.files.form import BODY_OVERHEAD_BYTES
from cordee.services.files.routes import files, leaving, uploads
from cordee.services.files.service import Service
from cordee.services.files.storage import MissingError, StorageAwayError, StorageFullError, open_storage
from cordee.services.files.tables import metadata, outbox, outbox_lease

NAME = "files"
HISTORY = Path(str(migrations.__file__)).parent
FULL_RETRY_AFTER_S = 60
_FILES, _PARTS = "/v1/files", "/parts"  # the paths that bring contents
_log = logging.getLogger(__name__)


def create(settings: Files, database: Database, ground: Ground) -> FastAPI:
    """The application. Starting it migrates the database; stopping it closes it. Raises DatabaseError where keys or
    directories are not to be had."""
    service = Service(
        settings, database, Outbox(NAME, outbox, outbox_lease, settings.outbox),
        open_storage(settings, ground.data, os.environ), keyring(settings.encryption, ground.data, os.environ), ground.now,
    )  # fmt: skip

    @contextlib.asynccontextmanager
    async def living(_app: FastAPI) -> AsyncIterator[None]:
        with contextlib.closing(service):
            async with (
                opened(database, HISTORY, metadata, settings.database.migrate_wait_s),
                beside(service.outbox.run(database, ground.publisher, ground.now), sweep.run(service)),
            ):
                yield

    app = FastAPI(
        title="Cordée files", version="1", lifespan=living, docs_url=None, redoc_url=None, redirect_slashes=False,
        openapi_url="/v1/files/openapi.json",
    )  # fmt: skip
    app.state.ground = ground
    app.state.service = service
    app.add_middleware(_Limits, settings=settings)
    errors.install(app)
    for kind, handler in ((StorageAwayError, _away), (StorageFullError, _full), (AwayError, _database_away),
                          (DamagedError, _damaged), (MissingError, _damaged)):  # fmt: skip
        app.add_exception_handler(kind, handler)
    for router in (leaving.router, files.router, uploads.router):
        app.include_router(router)
    describe(app)
    return app


class _Limits:
    """ASGI middleware: a body that brings a content may be as large as that; any other is small."""

    def __init__(self, app: ASGIApp, settings: Files) -> None:
        self._plain = BodyLimit(app, settings.body_bytes_max)
        self._file = BodyLimit(app, settings.file_bytes_max + BODY_OVERHEAD_BYTES)
        self._part = BodyLimit(app, settings.part_bytes_max + BODY_OVERHEAD_BYTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        limit = self._file if path == _FILES else self._part if path.endswith(_PARTS) else self._plain
        await limit(scope, receive, send)


async def _away(_request: Request, error: Exception) -> Response:
    _log.warning("the storage of files is away: %s", error.__cause__ or error)
    return errors.answer(
        503, f"This cannot be done now: {error}", code="storage_away", retry_after_s=errors.RETRY_AFTER_S
    )


async def _full(_request: Request, error: Exception) -> Response:
    _log.warning("an upload was refused: %s", error)
    return errors.answer(
        507, "There is no room left where files are kept; delete files, or ask the operator.", code="storage_full",
        retry_after_s=FULL_RETRY_AFTER_S,
    )  # fmt: skip


async def _database_away(request: Request, error: Exception) -> Response:
    service: Service = request.app.state.service
    try:
        await service.storage.need_room()
    except StorageFullError as full:
        return await _full(request, full)  # a database on a disk that is full is away for no other reason
    return errors.answer(
        503, f"This cannot be done now: {error}", code="database_away", retry_after_s=errors.RETRY_AFTER_S
    )


async def _damaged(_request: Request, error: Exception) -> Response:
    _log.error("a content cannot be given back: %s", error)
    return errors.answer(
        500, "The content of this file cannot be read; the log says why. Ask the operator.", code="content_damaged"
    )
