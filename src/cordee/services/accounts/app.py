"""The accounts service as a web application."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
from fastapi import FastAPI, Request, Response

from cordee.config.sections.services import Accounts
from cordee.services.accounts import migrations
from cordee.services.accounts.feed import Feed
from cordee.services.accounts.oauth import OAuthProblem
from cordee.services.accounts.passwords import Hasher
from cordee.services.accounts.providers.provider import Provider
from cordee.services.accounts.routes import account, oauth, pages, providers
from cordee.services.accounts.routes.erasures import router as erasures_router
from cordee.services.accounts.routes.feed import router as feed_router
from cordee.services.accounts.service import Service
from cordee.services.accounts.store import changes, grants, safety
from cordee.services.accounts.tables import metadata, outbox, outbox_lease
from cordee.services.accounts.tokens import Mint
from cordee.services.base import errors
from cordee.services.base.body import BodyLimit
from cordee.services.base.database import AwayError, Database
from cordee.services.base.description import describe
from cordee.services.base.ground import Ground
from cordee.services.base.living import beside, opened
from cordee.services.base.outbox import Outbox
from cordee.services.base.seal import Seal, secret_of

NAME = "accounts"
SECRET_FILE = "accounts.secret"  # noqa: S105 - a name, in the data directory
HISTORY = Path(str(migrations.__file__)).parent
TIDY_S = 600.0  # between two looks for what has expired
ENDED_TOLD_LIVES = 2.0  # of a token, before a signing in that was ended is forgotten
_log = logging.getLogger(__name__)


def create(
    settings: Accounts,
    database: Database,
    ground: Ground,
    secret: bytes | None = None,
    outside: httpx.AsyncBaseTransport | None = None,
) -> FastAPI:
    """The application. `secret`: what signing keys are sealed with (base/seal.py); None: the one in the data directory, made at the
    first time. `outside`: how providers are asked; None: over the network. Starting it migrates the database; stopping it closes it.
    Raises DatabaseError."""
    now = ground.now
    if secret is None:
        secret = secret_of(ground.data / "services" / SECRET_FILE)
    service = Service(
        settings, database, Outbox(NAME, outbox, outbox_lease, settings.outbox), Hasher(settings.passwords),
        Mint(settings, database, Seal(secret), now), now,
    )  # fmt: skip
    known = {name: Provider(name, one, now, outside) for name, one in settings.providers.items()}

    @contextlib.asynccontextmanager
    async def living(_app: FastAPI) -> AsyncIterator[None]:
        try:
            async with opened(database, HISTORY, metadata, settings.database.migrate_wait_s):
                await service.mint.keep()
                async with beside(service.outbox.run(database, ground.publisher, now), _tidy(service)):
                    yield
        finally:
            service.hasher.close()
            for one in known.values():
                await one.close()

    app = FastAPI(
        title="Cordée accounts", version="1", lifespan=living, docs_url=None,
        redoc_url=None, redirect_slashes=False, openapi_url="/v1/accounts/openapi.json",
    )  # fmt: skip
    app.state.service = service
    app.state.ground = ground
    app.state.feed = Feed(service)
    app.state.providers = known
    app.add_middleware(BodyLimit, bytes_max=settings.body_bytes_max)
    errors.install(app)
    app.add_exception_handler(OAuthProblem, _oauth_error)
    for router in (account.router, oauth.router, pages.router, providers.router, feed_router, erasures_router):
        app.include_router(router)
    describe(app)
    return app


async def _oauth_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, OAuthProblem)
    return oauth.oauth_error(error)


async def forget_expired(service: Service) -> None:
    """Drop what has expired. Raises AwayError."""
    now, tokens, feed = service.now(), service.settings.tokens, service.settings.feed
    ended_before = now - ENDED_TOLD_LIVES * tokens.access_s - feed.ended_kept_s
    async with service.database.writing() as on:
        await grants.forget(on, now, ended_before)
        await safety.forget_failures(on, now - service.settings.lockout.forgotten_s)
        await changes.forget(on, now - feed.gone_kept_s, ended_before)


async def _tidy(service: Service) -> None:
    """Drop what has expired, now and then, until cancelled."""
    while True:
        try:
            await forget_expired(service)
        except AwayError as error:
            _log.warning("what has expired stays for now: %s", error)
        except Exception as error:
            # Whatever it is, a table that nobody tidies fills the disk.
            _log.error("what has expired stays for now: tidying failed", exc_info=error)
        await asyncio.sleep(TIDY_S)
