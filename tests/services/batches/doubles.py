"""The gateways as batches see them, in this process: files, models, and the other services' erasures. Repeats under the same
Idempotency-Key get the first answer, like at the real door."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from cordee.services.base.door import Asked, DoorError, RefusedError, Whole
from cordee.wire.vouch import Vouched

JSON = {"content-type": "application/json"}
Answer = Callable[[dict[str, Any], int], tuple[int, dict[str, Any]]]


def plain(body: dict[str, Any], _times: int) -> tuple[int, dict[str, Any]]:
    """What a model says that is always there."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return 200, {"object": "chat.completion", "said": body["messages"][0]["content"], "usage": usage}


class Gateways:
    """`effects`: how often each key really did something; `asked`: every call with who asked."""

    def __init__(self, answer: Answer = plain) -> None:
        self.answer = answer
        self.files: dict[str, tuple[str, bytes]] = {}
        self.stored: dict[str, str] = {}
        self.replies: dict[str, Whole] = {}
        self.effects: Counter[str] = Counter()
        self.tries: Counter[str] = Counter()
        self.asked: list[tuple[Vouched, Asked]] = []
        self.refuses_erasing = 0
        self.left: Counter[str] = Counter()
        self.is_away = False
        self.running = 0
        self.running_most = 0
        self.slow = asyncio.Event()
        self.slow.set()

    def upload(self, name: str, *lines: Any, purpose: str = "batch") -> str:
        """A file of JSON lines, or of bytes as they are."""
        content = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
        self.files[name] = (purpose, content)
        return name

    def lines(self, file_id: str | None) -> list[dict[str, Any]]:
        assert file_id is not None
        return [json.loads(line) for line in self.files[file_id][1].splitlines()]

    async def ask(self, caller: Vouched, asked: Asked) -> Whole:
        if self.is_away:
            raise DoorError("nobody is there")
        self.asked.append((caller, asked))
        body: Any = await _all(asked.body) if hasattr(asked.body, "__aiter__") else asked.body
        if asked.path == "/v1/files":
            return self._store(asked, body)
        if asked.path.startswith("/v1/files/") and asked.method == "GET":
            return self._file(asked.path.rsplit("/", 1)[1])
        if asked.path.endswith("/erasures"):
            if self.refuses_erasing:
                return Whole(self.refuses_erasing, JSON, b"{}")
            name = asked.path.split("/")[2]
            self.effects[name] += 1
            self.left[name] -= 1
            return Whole(200, JSON, json.dumps({"done": self.left[name] <= 0}).encode())
        return await self._model(asked, json.loads(body))

    async def _model(self, asked: Asked, body: dict[str, Any]) -> Whole:
        if asked.key in self.replies:
            return self.replies[asked.key]
        self.running += 1
        self.running_most = max(self.running, self.running_most)
        slow = self.slow  # as it was when it was asked
        try:
            await asyncio.sleep(0)
            await slow.wait()
            self.tries[asked.key] += 1
            status, said = self.answer(body, self.tries[asked.key])
        finally:
            self.running -= 1
        retry = {"retry-after": "0.01"} if status in (429, 503) else {}
        answer = Whole(status, {**JSON, **retry, "x-request-id": "req_1"}, json.dumps(said).encode())
        if status == 200:
            self.effects[asked.key] += 1
            self.replies[asked.key] = answer
        return answer

    @asynccontextmanager
    async def fetch(self, _caller: Vouched, asked: Asked) -> AsyncIterator[AsyncIterator[bytes]]:
        if self.is_away:
            raise DoorError("nobody is there")
        found = self.files.get(asked.path.split("/")[3])
        if found is None:
            raise RefusedError(404, b"{}")

        async def pieces() -> AsyncIterator[bytes]:
            for begin in range(0, len(found[1]), 1000):
                yield found[1][begin : begin + 1000]

        yield pieces()

    def stream(self, _caller: Vouched, _asked: Asked) -> Any:
        raise AssertionError("batches do not stream")

    def _file(self, name: str) -> Whole:
        if name not in self.files:
            return Whole(404, JSON, b"{}")
        purpose, content = self.files[name]
        return Whole(200, JSON, json.dumps({"id": name, "purpose": purpose, "bytes": len(content)}).encode())

    def _store(self, asked: Asked, form: bytes) -> Whole:
        if asked.key not in self.stored:
            boundary = (asked.headers or {})["content-type"].partition("boundary=")[2].encode()
            parts = form.split(b"--" + boundary)
            content = parts[-2].partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
            assert parts[-1] == b"--\r\n"
            assert b'name="purpose"\r\n\r\nbatch_output' in form
            name = f"file_{len(self.files)}"
            self.files[name] = ("batch_output", content)
            self.stored[asked.key] = name
        self.effects[asked.key] += 1
        return Whole(200, JSON, json.dumps({"id": self.stored[asked.key]}).encode())


async def _all(body: Any) -> bytes:
    return b"".join([piece async for piece in body])


def request(custom_id: str, content: str = "hi", **more: Any) -> dict[str, Any]:
    """A line of an input file."""
    body = {"model": "oracle", "messages": [{"role": "user", "content": content}], **more}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}
