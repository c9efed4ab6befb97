"""Hundreds of streaming clients in one thread, and what each of them was told, token by token and when."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.rig import HEADERS, oracle_text

PATIENCE_S = 50.0
CHAT = "/v1/chat/completions"


@dataclass(slots=True)
class Told:
    """What one client heard. `at_s`: when each event with text came, on the monotonic clock."""

    asked: dict[str, Any]
    asked_s: float = 0.0
    status: int = 0
    id: str = ""
    text: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    roles: int = 0
    finishes: list[str] = field(default_factory=list)
    dones: int = 0
    error: str = ""
    at_s: list[float] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """The oracle's answer, once, with one beginning and one end."""
        asked = self.asked
        right = oracle_text(asked["seed"], asked["max_tokens"])
        return (
            not self.error
            and self.text == right
            and self.roles == 1
            and self.dones == 1
            and self.finishes == ["length"]
        )

    @property
    def first_s(self) -> float:
        return self.at_s[0] - self.asked_s

    def stall_s(self, since_s: float = 0.0) -> float:
        """The longest silence after its first token that ended after `since_s`."""
        return max((b - a for a, b in zip(self.at_s, self.at_s[1:], strict=False) if b >= since_s), default=0.0)

    def hear(self, event: dict[str, Any]) -> None:
        if "error" in event:
            self.error = json.dumps(event["error"])
            return
        for choice in event["choices"]:
            delta = choice.get("delta", {})
            self.roles += "role" in delta
            content = delta.get("content") or ""
            if content:
                self.text += content
                self.at_s.append(time.monotonic())
            if choice["finish_reason"]:
                self.finishes.append(choice["finish_reason"])


def chat(seed: int, max_tokens: int, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "x"}]
    return {
        "model": "oracle", "messages": messages, "max_tokens": max_tokens, "seed": seed, "ignore_eos": True, "stream": True,
        **more,
    }  # fmt: skip


async def listen(
    port: int, asked: dict[str, Any], headers: dict[str, str] | None = None, leave_after: int = -1, keep: bool = False
) -> Told:
    """One streaming call to its end, or until the client leaves after so many texts. `keep`: all its events too."""
    told = Told(asked, time.monotonic())
    try:
        async with asyncio.timeout(PATIENCE_S):
            await _listen(port, told, {**HEADERS, **(headers or {})}, leave_after, keep)
    except (OSError, EOFError, TimeoutError, ValueError) as trouble:
        told.error = told.error or repr(trouble)
    return told


async def all_of(port: int, asked: Sequence[dict[str, Any]]) -> list[Told]:
    return list(await asyncio.gather(*(listen(port, one) for one in asked)))


async def during(
    port: int, asked: Sequence[dict[str, Any]], after_s: float, event: Callable[[], Awaitable[Any]]
) -> list[Told]:
    """All of them at once; the event comes after so many seconds."""
    running = asyncio.ensure_future(all_of(port, asked))
    await asyncio.sleep(after_s)
    await event()
    return await running


async def _listen(port: int, told: Told, headers: dict[str, str], leave_after: int, keep: bool) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        body = json.dumps(told.asked).encode()
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n{lines}\r\n".encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        told.status = int(head[0].split()[1])
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
        told.id = fields.get("x-request-id", "")
        if "content-length" in fields:
            answer = await reader.readexactly(int(fields["content-length"]))
            told.error = f"{told.status} {answer[:300]!r}"
            return
        rest = b""
        while size := int(await reader.readline(), 16):
            chunk = (await reader.readexactly(size + 2))[:-2]
            *events, rest = (rest + chunk).split(b"\n\n")
            for event in events:
                _hear(told, event, keep)
            if 0 <= leave_after <= len(told.at_s):
                return
        assert not rest.strip(), rest
    finally:
        writer.close()


def _hear(told: Told, event: bytes, keep: bool) -> None:
    for line in event.split(b"\n"):
        if line == b"data: [DONE]":
            told.dones += 1
        elif line.startswith(b"data: "):
            if told.dones:
                told.error = "something follows [DONE]"
            found = json.loads(line[6:])
            if keep:
                told.events.append(found)
            told.hear(found)
