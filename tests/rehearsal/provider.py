"""A provider of language models as a process of its own: OpenAI's API with a key, quota errors, slowness, outages, streams that
break, and answers that go on from a last message marked as such.

`python -m tests.rehearsal.provider PORT HOST` serves; `Provider` starts and steers one. What it answers is a function of nothing but
the number of words asked for, so that a test knows every byte of it.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.ports import free_port
from tests.rig import until

KEY = "sk-provider"
WORDS = 20


def words(count: int = WORDS, of: str = "cloud") -> list[str]:
    return [f"{of}-{number} " for number in range(count)]


@dataclass
class Manner:
    """How it behaves. `mode`: "ok", "busy" (429 with Retry-After), "quota" (429 without money), "error" (500), "refuse" (400),
    "filter" (400 data_inspection_failed), "hang" (no answer), "html", "json" (an error object with status 200), "break" (the
    stream ends after `after` words, once or always), "stall" (it stops there), "no_done", "no_finish", "garbage"."""

    mode: str = "ok"
    after: int = 5
    once: bool = False
    first_s: float = 0.0
    word_s: float = 0.0
    count: int = WORDS
    retry_after_s: float = 7.0
    share: float = 1.0  # of the requests that `mode` is for; the others are answered
    refused: str = ""  # a text in a request that is refused with 400, whatever else


@dataclass
class State:
    manner: Manner = field(default_factory=Manner)
    seen: list[dict[str, Any]] = field(default_factory=list)
    open: int = 0
    open_most: int = 0


class Provider:
    """`with Provider() as provider:` — `provider.be(mode="busy")`, `provider.seen()`."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.port = port or free_port()
        self._start()

    def _start(self) -> None:
        command = [sys.executable, "-m", "tests.rehearsal.provider", str(self.port), self.host]
        self._process = subprocess.Popen(command)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/compatible-mode/v1"

    def __enter__(self) -> Provider:
        until(self._is_up, "the provider listens")
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def start_again(self) -> None:
        self.kill()
        self._start()
        until(self._is_up, "the provider listens again")

    def be(self, **manner: Any) -> None:
        self._ask("/control", asdict(Manner(**manner)))

    def seen(self) -> list[dict[str, Any]]:
        """The chat requests it has had: body and headers."""
        found: list[dict[str, Any]] = self._ask("/seen")["seen"]
        return found

    def open_most(self) -> int:
        return int(self._ask("/seen")["open_most"])

    def forget(self) -> None:
        self._ask("/forget", {})

    def _is_up(self) -> bool:
        try:
            return bool(self._ask("/seen"))
        except OSError:
            return False

    def _ask(self, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=5)
        connection.request("POST" if body is not None else "GET", path, json.dumps(body))
        return json.loads(connection.getresponse().read())


# -- the process


async def serve(port: int, host: str) -> None:
    state = State()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await one(reader, writer, state):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(client, host, port)
    async with server:
        await server.serve_forever()


async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: State) -> bool:
    """One request. False: the connection ends."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    line, *lines = head.split("\r\n")
    method, path, _ = line.split(" ")
    headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines if one)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    if path == "/seen":
        return answer(writer, 200, {"seen": state.seen, "open_most": state.open_most})
    if path == "/control":
        state.manner = Manner(**json.loads(body))
        return answer(writer, 200, {})
    if path == "/forget":
        state.seen.clear()
        state.open_most = 0
        return answer(writer, 200, {})
    if path.endswith("/v1/models") and method == "GET":
        return answer(writer, 200, {"object": "list", "data": [{"id": "qwen-plus", "object": "model"}]})
    if not path.endswith("/v1/chat/completions") or method != "POST":
        return answer(writer, 404, error("not found", "invalid_request_error", "model_not_found"))
    if headers.get("authorization") != f"Bearer {KEY}":
        return answer(writer, 401, error("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"))
    asked = json.loads(body)
    state.seen.append({"body": asked, "headers": headers})
    state.open += 1
    state.open_most = max(state.open_most, state.open)
    try:
        return await chat(writer, asked, state)
    finally:
        state.open -= 1


async def chat(writer: asyncio.StreamWriter, asked: dict[str, Any], state: State) -> bool:
    manner = state.manner
    mode = manner.mode if random.random() < manner.share else "ok"
    if manner.refused and manner.refused in json.dumps(asked["messages"]):
        return answer(writer, 400, error("not like this", "invalid_request_error", "invalid_parameter_error"))
    if manner.once:
        state.manner = Manner(count=manner.count, word_s=manner.word_s)
    if mode == "busy":
        more = f"retry-after: {manner.retry_after_s:g}\r\n"
        return answer(writer, 429, error("Requests rate limit exceeded", "limit_requests", "limit_requests"), more)
    if mode == "quota":
        return answer(writer, 429, error("You exceeded your current quota", "insufficient_quota", "insufficient_quota"))
    if mode == "error":
        return answer(writer, 500, error("Internal server error", "internal_error", "internal_error"))
    if mode == "refuse":
        return answer(writer, 400, error("Range of input length", "invalid_request_error", "invalid_parameter_error"))
    if mode == "filter":
        return answer(
            writer, 400, error("may contain inappropriate content", "data_inspection_failed", "data_inspection_failed")
        )
    if mode == "html":
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 13\r\n\r\n<html></html>")
        return True
    if mode == "json":
        return answer(writer, 200, error("busy", "server_error", "overloaded"))
    if mode == "hang":
        await asyncio.sleep(3600)
    await asyncio.sleep(manner.first_s)
    goes_on = asked["messages"][-1].get("partial") or asked.get("continue_final_message")
    said = len(asked["messages"][-1]["content"].split()) if goes_on else 0
    rest = words(manner.count)[said:]
    limit = asked.get("max_completion_tokens") or asked.get("max_tokens") or manner.count
    why = "stop" if limit >= len(rest) else "length"
    rest = rest[:limit]
    usage = {"prompt_tokens": 10 + said, "completion_tokens": len(rest), "total_tokens": 10 + said + len(rest)}
    common = {"id": f"chatcmpl-{len(state.seen)}", "created": 1700000000 + len(state.seen), "model": asked["model"]}
    if not asked.get("stream"):
        await asyncio.sleep(manner.word_s * len(rest))
        if mode == "break":
            writer.write(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{"id"')
            return False
        message = {"role": "assistant", "content": "".join(rest)}
        choices = [{"index": 0, "message": message, "finish_reason": why}]
        return answer(writer, 200, {**common, "object": "chat.completion", "choices": choices, "usage": usage})
    return await stream(writer, asked, rest, why, usage, common, manner, mode)


async def stream(
    writer: asyncio.StreamWriter, asked: dict[str, Any], rest: list[str], why: str, usage: dict[str, int],
    common: dict[str, Any], manner: Manner, mode: str,
) -> bool:  # fmt: skip
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")

    def event(choices: list[Any], **more: Any) -> bytes:
        return (
            b"data: %s\n\n"
            % json.dumps({**common, "object": "chat.completion.chunk", "choices": choices, **more}).encode()
        )

    if mode == "garbage":
        chunk(writer, b"data: {nonsense\n\n")
        return False
    chunk(writer, event([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]))
    for number, word in enumerate(rest):
        if number == manner.after and mode == "break":
            writer.write(b"5\r\nda")
            return False
        if number == manner.after and mode == "stall":
            await asyncio.sleep(3600)
        if number == manner.after and mode == "failing":
            chunk(writer, b"data: %s\n\n" % json.dumps(error("overloaded", "server_error", "server_error")).encode())
            return False
        chunk(writer, event([{"index": 0, "delta": {"content": word}, "finish_reason": None}]))
        await writer.drain()
        await asyncio.sleep(manner.word_s)
    if mode != "no_finish":
        chunk(writer, event([{"index": 0, "delta": {}, "finish_reason": why}]))
    if asked.get("stream_options", {}).get("include_usage"):
        chunk(writer, event([], usage=usage))
    if mode != "no_done":
        chunk(writer, b"data: [DONE]\n\n")
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


def chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))


def error(message: str, type: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


def answer(writer: asyncio.StreamWriter, status: int, body: Any, more: str = "") -> bool:
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n{more}\r\n"
    writer.write(head.encode() + data)
    return True


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
