"""Services of one process: each path to its service, and one that cannot start takes nobody down."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from fastapi import FastAPI, Request

from cordee.config.sections.services import Services
from cordee.domain.passages import PASSAGES, Service
from cordee.services.base.database import AwayError, DatabaseError
from cordee.services.base.together import Together

pytestmark = pytest.mark.anyio
PATIENCE_S = 30.0
SETTINGS = Services(retry_s=0.01, retry_s_max=0.01, requests_max=1)


def app(service: Service, told: list[str], dies: Exception | None = None) -> FastAPI:
    @contextlib.asynccontextmanager
    async def living(_app: FastAPI) -> AsyncIterator[None]:
        if dies is not None:
            raise dies
        told.append(f"{service.value} began")
        yield
        told.append(f"{service.value} ended")

    made = FastAPI(lifespan=living)

    @made.api_route("/{path:path}", methods=["GET", "POST"])
    async def anything(request: Request) -> dict[str, str]:
        return {"service": service.value, "path": request.url.path}

    return made


def client(together: Together) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(together), base_url="http://services")


@contextlib.asynccontextmanager
async def running(makers: dict[Service, Callable[[], FastAPI]]) -> AsyncIterator[tuple[Together, httpx.AsyncClient]]:
    together = Together(makers, SETTINGS)
    together.start()
    await together.settled()
    async with client(together) as asking:
        yield together, asking
    await together.stop(PATIENCE_S)


async def test_every_passage_leads_to_its_service() -> None:
    told: list[str] = []
    async with running({service: lambda service=service: app(service, told) for service in Service}) as (_, asking):  # type: ignore[misc]
        for passage in PASSAGES:
            path = passage.path + ("x/y" if passage.path.endswith("/") else "")
            assert (await asking.get(path)).json() == {"service": passage.service.value, "path": path}
        assert (await asking.get("/healthz")).json()["status"] == "ready"
    assert sorted(told) == sorted(f"{service.value} {what}" for service in Service for what in ("began", "ended"))


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/chat/completions", "/v1/filesx", "/v1/files/../../x", "/healthzz"])
async def test_a_path_of_no_service_is_a_404_of_our_form(path: str) -> None:
    async with running({Service.FILES: lambda: app(Service.FILES, [])}) as (together, _):
        said = await asked(together, path)
        if path.startswith("/v1/files/"):
            assert said[0] == 200  # what the folder means by it is its service's affair
        else:
            assert said[0] == 404
            assert b'"code":"not_found"' in said[1]


async def asked(together: Together, path: str) -> tuple[int, bytes]:
    """Without a client that tidies the path."""
    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
    }
    await together({**scope, "http_version": "1.1", "scheme": "http"}, receive, send)  # type: ignore[arg-type]
    return sent[0]["status"], b"".join(bytes(one.get("body", b"")) for one in sent[1:])  # type: ignore[return-value,call-overload]


async def test_a_service_that_cannot_start_is_missing_while_the_others_answer() -> None:
    makers = {
        Service.FILES: lambda: app(Service.FILES, []),
        Service.CHATS: lambda: app(Service.CHATS, [], DatabaseError("a newer version has migrated it")),
    }
    async with running(makers) as (together, asking):
        assert (await asking.get("/v1/files")).status_code == 200
        refused = await asking.get("/v1/responses/resp_1")
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "service_away"
        assert refused.headers["retry-after"]
        health = (await asking.get("/healthz")).json()
        assert health["status"] == "degraded"
        assert health["services"]["chats"] == {"state": "missing", "why": "a newer version has migrated it"}
        assert together.missing == {"chats": "a newer version has migrated it"}


async def test_what_a_service_died_of_is_told_only_where_it_is_meant_to_be_read() -> None:
    def broken() -> FastAPI:
        raise ValueError("postgresql://user:password@host")

    async with running({Service.CHATS: broken}) as (together, _):
        assert "password" not in together.missing["chats"]


async def test_a_service_is_tried_again_until_it_is_there() -> None:
    tries: list[int] = []

    def make() -> FastAPI:
        tries.append(1)
        return app(Service.CHATS, [], AwayError("the database does not answer now") if len(tries) < 3 else None)

    async with running({Service.CHATS: make}) as (together, asking):
        async with asyncio.timeout(PATIENCE_S):
            while together.missing:
                await asyncio.sleep(0)
        assert (await asking.get("/v1/chats")).status_code == 200
        assert len(tries) == 3


async def test_more_requests_than_may_be_open_are_refused() -> None:
    entered, leave = asyncio.Event(), asyncio.Event()
    slow = FastAPI()

    @slow.get("/v1/files")
    async def files() -> str:
        entered.set()
        await leave.wait()
        return "done"

    async with running({Service.FILES: lambda: slow}) as (together, asking):
        first = asyncio.create_task(asking.get("/v1/files"))
        await entered.wait()
        second = await asking.get("/v1/files")
        assert (second.status_code, second.json()["error"]["code"]) == (503, "services_busy")
        assert (await asking.get("/healthz")).json()["open"] == 1
        leave.set()
        assert (await first).status_code == 200
        assert together.open == 0
