"""The chats service in this process, before a door that answers with recorded chunks, and the official client in front of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import openai
import pytest

from cordee.config.sections.services import Chats, DatabaseSettings, Responses
from cordee.config.sections.services import Spool as SpoolSettings
from cordee.services.base.database import connect
from cordee.services.base.door import Asked, DoorError, RefusedError, Streamed, Whole
from cordee.services.base.ground import Ground
from cordee.services.base.outbox import MemoryPublisher
from cordee.services.chats.app import create
from cordee.wire.vouch import HEADER, TO_SERVICES, Vouched, vouch

SECRET = b"s" * 32
NOW = time.time()  # ids say when they were made
SCOPES = frozenset({"inference", "chats.read", "chats.write"})
ADA = Vouched("tenant_a", "key_ada", "user_ada", SCOPES)
EVE = Vouched("tenant_e", "key_eve", "user_eve", SCOPES)
CALL = "ab" * 16
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "prompt_tokens_details": {"cached_tokens": 1}}
WORDS = ("One", " two", " three", " four", ".")


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": None}


def text(*words: str, finish: str = "stop") -> list[dict[str, Any]]:
    said = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": word}) for word in words)]
    return [*said, chunk({}, finish), {"choices": [], "usage": USAGE}]


def call(name: str, *arguments: str) -> list[dict[str, Any]]:
    first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}}
    more = [chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in arguments]
    return [chunk({"tool_calls": [first]}), *more, chunk({}, "tool_calls"), {"choices": [], "usage": USAGE}]


class Gateways:
    """services.base.door.Door that answers with `chunks`, from the beginning for every key. It waits before chunk `held` until `go`."""

    def __init__(self) -> None:
        self.chunks = text(*WORDS)
        self.asked: list[tuple[Vouched, Asked]] = []
        self.refuses: list[Exception] = []
        self.held: int | None = None
        self.go = asyncio.Event()
        self.cancelled = 0

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(asked.body) for _, asked in self.asked]

    async def ask(self, caller: Vouched, asked: Asked) -> Whole:
        self.asked.append((caller, asked))
        if self.refuses:
            error = self.refuses.pop(0)
            if isinstance(error, RefusedError):
                return Whole(error.status, {}, error.body)
            raise error
        message: dict[str, Any] = {"role": "assistant", "content": None}
        finish = "stop"
        for one in self.chunks:
            for choice in one["choices"]:
                message["content"] = (message["content"] or "") + (choice["delta"].get("content") or "")
                finish = choice["finish_reason"] or finish
        body = {"choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": USAGE}
        return Whole(200, {}, json.dumps(body).encode())

    @contextlib.asynccontextmanager
    async def stream(self, caller: Vouched, asked: Asked) -> AsyncIterator[AsyncIterator[Streamed]]:
        self.asked.append((caller, asked))
        if self.refuses:
            raise self.refuses.pop(0)
        try:
            yield self._said()
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise

    @contextlib.asynccontextmanager
    async def fetch(self, caller: Vouched, asked: Asked) -> AsyncIterator[AsyncIterator[bytes]]:
        raise DoorError
        yield

    async def _said(self) -> AsyncIterator[Streamed]:
        for at, one in enumerate(self.chunks):
            if at == self.held:
                await self.go.wait()
            yield Streamed(f"{CALL}.{at}.0123456789abcdef", json.dumps(one).encode())
        yield Streamed("", b"[DONE]")


class House:
    """One services process over a database that others may share."""

    def __init__(self, settings: Chats, data: Path, door: Gateways, now: Callable[[], float]) -> None:
        self.door = door
        self.database = connect(settings.database, "chats", data)
        self.events: list[Any] = []
        self.app = create(
            settings, self.database, Ground(data, SECRET, door, MemoryPublisher([self.events.append]), now)
        )
        self._now = now

    def client(self, caller: Vouched = ADA) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            api_key="none", base_url="http://chats/v1", max_retries=0, http_client=self.plain(caller)
        )

    def plain(self, caller: Vouched = ADA) -> httpx2.AsyncClient:
        headers = {HEADER: vouch(caller, TO_SERVICES, SECRET, self._now())}
        return httpx2.AsyncClient(transport=httpx2.ASGITransport(self.app), base_url="http://chats", headers=headers)


@pytest.fixture
def door() -> Gateways:
    return Gateways()


@pytest.fixture
def record_s() -> float:
    """How long the database may take: what goes to disk instead is not yet there for whoever deletes it."""
    return 30.0


@pytest.fixture
def settings(database_settings: DatabaseSettings, record_s: float) -> Chats:
    quick = Responses(poll_s=0.05, flush_s=0.02, follow_s=0.02, lease_s=1.0, tidy_s=0.05)
    spool = SpoolSettings(record_s=record_s)
    return msgspec.structs.replace(Chats(), database=database_settings, responses=quick, spool=spool)


@pytest.fixture
async def house(settings: Chats, tmp_path: Path, door: Gateways) -> AsyncIterator[House]:
    made = House(settings, tmp_path, door, lambda: NOW)
    async with made.app.router.lifespan_context(made.app):
        yield made
