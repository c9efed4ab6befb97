"""All services of one process behind one socket: which of them a path leads to, and what becomes of one that cannot start.

Each service lives by itself: it is made, started, and tried again when that failed (a database that is away, a schema that is newer)
without the others noticing. Its paths answer 503 until it is there. `/healthz` says how each one is; gateways lead nobody there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cordee.config.sections.services import Services
from cordee.domain.passages import PASSAGES, Service
from cordee.services.base.database import AwayError, DatabaseError
from cordee.services.base.errors import RETRY_AFTER_S, answer

HEALTH_PATH = "/healthz"
_WHY_CHARACTERS = 300  # of a reason, in health and status
_PATH_CHARACTERS = 128  # of a path that leads nowhere, in the answer
_BESIDES_HTTP = 1008  # the WebSocket close code for what is against the rules: no service speaks it
_log = logging.getLogger(__name__)


class State(Enum):
    """How a service is. MISSING: it could not start, and is tried again."""

    STARTING = "starting"
    READY = "ready"
    MISSING = "missing"


class _Router(Protocol):
    lifespan_context: Callable[[Any], AbstractAsyncContextManager[Any]]


class App(Protocol):
    """A FastAPI application."""

    @property
    def router(self) -> _Router: ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


Make = Callable[[], App]


class _Part:
    """One service: its application while it is there."""

    def __init__(self, name: str, make: Make, retry_s: float, retry_s_max: float) -> None:
        self.state = State.STARTING
        self.why = ""
        self.app: App | None = None
        self.tried = asyncio.Event()  # it is there, or was not the first time
        self.stopping = asyncio.Event()
        self._name = name
        self._make = make
        self._pause_s = retry_s
        self._pause_s_max = retry_s_max

    async def live(self) -> None:
        """Until it is to stop: started, and tried again as long as that fails."""
        while not self.stopping.is_set():
            try:
                app = self._make()
                async with app.router.lifespan_context(app):
                    self.app, self.state, self.why = app, State.READY, ""
                    self.tried.set()
                    _log.info("%s is ready", self._name)
                    await self.stopping.wait()
                return
            except Exception as error:
                # Whatever a service dies of, the others live on.
                self._failed(error)
            finally:
                self.app = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s):
                    await self.stopping.wait()
            self._pause_s = min(2 * self._pause_s, self._pause_s_max)

    def _failed(self, error: Exception) -> None:
        is_known = isinstance(error, DatabaseError | AwayError | OSError)
        why = str(error) if is_known else f"{type(error).__name__}; the log of this process says more"
        self.state, self.why = State.MISSING, why[:_WHY_CHARACTERS]
        self.tried.set()
        _log.error(
            "%s cannot be offered: %s; it is tried again in %g s", self._name, why, self._pause_s,
            exc_info=None if is_known else error,
        )  # fmt: skip


class Together:
    """The ASGI application of a services process. `makers`: how each service's application is made, which may fail."""

    def __init__(self, makers: Mapping[Service, Make], settings: Services) -> None:
        self._parts = {
            service: _Part(service.value, make, settings.retry_s, settings.retry_s_max)
            for service, make in makers.items()
        }
        self._requests_max = settings.requests_max
        self._lives: list[asyncio.Task[None]] = []
        self.open = 0
        self.is_ending = False  # requests may be broken off
        # The longest first: what is said of a folder is not said of what lies deeper and has a service of its own.
        self._passages = sorted(PASSAGES, key=lambda passage: -len(passage.path))

    def start(self) -> None:
        """Start every service."""
        self._lives = [asyncio.create_task(part.live()) for part in self._parts.values()]

    async def settled(self) -> None:
        """Until every service is there or could not start the first time."""
        for part in self._parts.values():
            await part.tried.wait()

    @property
    def is_settled(self) -> bool:
        return all(part.tried.is_set() for part in self._parts.values())

    @property
    def missing(self) -> dict[str, str]:
        """The services that cannot be offered now, and why."""
        return {service.value: part.why for service, part in self._parts.items() if part.state is State.MISSING}

    async def stop(self, within_s: float) -> None:
        """End every service; what has not ended in time is broken off."""
        for part in self._parts.values():
            part.stopping.set()
        if self._lives:
            _, late = await asyncio.wait(self._lives, timeout=within_s)
            for life in late:
                life.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": _BESIDES_HTTP})
            return
        path: str = scope["path"]
        if path == HEALTH_PATH:
            await self._health()(scope, receive, send)
            return
        if self.open >= self._requests_max:
            message = f"This process has {self.open} requests open, which is all it takes; try again."
            await answer(503, message, code="services_busy", retry_after_s=RETRY_AFTER_S)(scope, receive, send)
            return
        self.open += 1
        try:
            app = self._app(path)
            await app(scope, receive, send)
        except asyncio.CancelledError:
            if not self.is_ending:
                raise
            # Nobody waits for the answer, and there is nothing to tell of it.
        finally:
            self.open -= 1

    def _app(self, path: str) -> App | Response:
        service = self._service(path)
        part = self._parts.get(service) if service is not None else None
        if service is None or part is None:
            return answer(404, f"There is nothing at {path[:_PATH_CHARACTERS]}.", code="not_found")
        if part.app is None:
            message = f"The service {service.value} is not there now; try again."
            return answer(503, message, code="service_away", retry_after_s=RETRY_AFTER_S)
        return part.app

    def _service(self, path: str) -> Service | None:
        for passage in self._passages:
            if path == passage.path or (passage.path.endswith("/") and path.startswith(passage.path)):
                return passage.service
        return None

    def _health(self) -> Response:
        services = {
            service.value: {"state": part.state.value, **({"why": part.why} if part.why else {})}
            for service, part in self._parts.items()
        }
        states = {part.state for part in self._parts.values()}
        overall = "degraded" if State.MISSING in states else "starting" if State.STARTING in states else "ready"
        content = json.dumps({"status": overall, "open": self.open, "services": services})
        return Response(content, 200, {"cache-control": "no-store"}, "application/json")
