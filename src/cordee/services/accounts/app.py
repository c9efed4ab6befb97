"""The accounts service as a web application."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response

from cordee.config.sections.services import Accounts
from cordee.services.accounts import migrations
from cordee.services.accounts.oauth import OAuthProblem
from cordee.services.accounts.passwords import Hasher
from cordee.services.accounts.routes import account, oauth, pages
from cordee.services.accounts.service import Service
from cordee.services.accounts.store import grants, safety
from cordee.services.accounts.tables import metadata, outbox, outbox_lease
from cordee.services.accounts.tokens import Mint
from cordee.services.base import errors
from cordee.services.base.body import BodyLimit
from cordee.services.base.database import AwayError, Database
from cordee.services.base.migrate import HEAD, migrate
from cordee.services.base.outbox import MemoryPublisher, Outbox, Publisher
from cordee.services.base.seal import Seal

NAME = "accounts"
SECRET_FILE = "accounts.secret"  # noqa: S105 - a name, in the data directory
HISTORY = Path(str(migrations.__file__)).parent
TIDY_S = 600.0  # between two looks for what has expired
_log = logging.getLogger(__name__)


def create(
    settings: Accounts,
    database: Database,
    secret: bytes,
    publisher: Publisher | None = None,
    now: Callable[[], float] = time.time,
) -> FastAPI:
    """The application. `secret`: what signing keys are sealed with (base/seal.py); `publisher`: where events go, in this process
    and nowhere when there is none; `now`: seconds of the epoch. Starting it migrates the database; stopping it closes it."""
    service = Service(
        settings, database, Outbox(NAME, outbox, outbox_lease, settings.outbox), Hasher(settings.passwords),
        Mint(settings, database, Seal(secret), now), now,
    )  # fmt: skip

    @contextlib.asynccontextmanager
    async def living(_app: FastAPI) -> AsyncIterator[None]:
        await migrate(database, HISTORY, metadata, settings.database.migrate_wait_s, HEAD)
        await service.mint.keep()
        beside = [
            asyncio.create_task(service.outbox.run(database, publisher or MemoryPublisher(), now)),
            asyncio.create_task(_tidy(service)),
        ]
        try:
            yield
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            service.hasher.close()
            await database.close()

    app = FastAPI(
        title="Cordée accounts", version="1", lifespan=living, docs_url=None,
        redoc_url=None, redirect_slashes=False, openapi_url="/v1/accounts/openapi.json",
    )  # fmt: skip
    app.state.service = service
    app.add_middleware(BodyLimit, bytes_max=settings.body_bytes_max)
    errors.install(app)
    app.add_exception_handler(OAuthProblem, _oauth_error)
    for router in (account.router, oauth.router, pages.router):
        app.include_router(router)
    _describe(app)
    return app


async def _oauth_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, OAuthProblem)
    return oauth.oauth_error(error)


async def _tidy(service: Service) -> None:
    """Drop what has expired, now and then, until cancelled."""
    while True:
        try:
            async with service.database.writing() as on:
                await grants.forget(on, service.now())
                await safety.forget_failures(on, service.now() - service.settings.lockout.forgotten_s)
        except AwayError as error:
            _log.warning("what has expired stays for now: %s", error)
        await asyncio.sleep(TIDY_S)


def _describe(app: FastAPI) -> None:
    """The description says what the handlers answer: a 400 with our error object, never FastAPI's own 422. Made when first asked."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = plain()
            for path in made["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)
            schemas: dict[str, Any] = made["components"]["schemas"]
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
        assert app.openapi_schema is not None, "FastAPI keeps what it made"
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]  # FastAPI's documented way to change the description
