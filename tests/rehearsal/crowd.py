"""A crowd of clients of one gateway in one process: they ask when they mean to, whether or not anybody has answered, and every
token they get is compared with what the oracle must have said."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.rig import oracle_text

OK = 200
DONE = b"data: [DONE]\n\n"
LAST_CHUNK = b"0\r\n\r\n"
HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Ask:
    """One call: by whose key, in which class, for how many tokens."""

    key: str
    priority: str
    tokens: int
    seed: int


@dataclass(slots=True)
class Got:
    """What became of it. Times in seconds on the monotonic clock; `first_s` and `end_s` since it was asked."""

    ask: Ask
    at_s: float
    status: int = 0
    first_s: float = 0.0
    end_s: float = 0.0
    retry_after_s: float = 0.0
    said: str = ""  # why it was refused
    tries: int = 1
    is_right: bool = False
    ends: int = 0


@dataclass(slots=True)
class Crowd:
    """`port` of the gateway. Connections are kept and used again, as a client's pool does."""

    port: int
    got: list[Got] = field(default_factory=list)
    _idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    async def ask(self, ask: Ask) -> Got:
        """One call, to its end. What comes is remembered in `got`."""
        got = Got(ask, time.monotonic())
        self.got.append(got)
        await self._once(ask, got)
        return got

    async def ask_until_heard(self, ask: Ask, tries: int, pause_s: float) -> Got:
        """The same by somebody who comes back after `pause_s`, whatever they were told."""
        got = Got(ask, time.monotonic())
        self.got.append(got)
        for number in range(tries):
            got.tries = number + 1
            await self._once(ask, got)
            if got.status == OK:
                break
            await asyncio.sleep(pause_s)
        return got

    async def _once(self, ask: Ask, got: Got) -> None:
        body = {
            "model": "oracle", "prompt": "x", "max_tokens": ask.tokens, "seed": ask.seed, "ignore_eos": True, "stream": True
        }  # fmt: skip
        data = json.dumps(body).encode()
        head = (
            f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ask.key}\r\ncontent-type: application/json\r\n"
            f"x-cordee-priority: {ask.priority}\r\ncontent-length: {len(data)}\r\n\r\n"
        )
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(head.encode() + data)
        first = await reader.readuntil(HEAD_END)
        got.status = int(first[9:12])
        headers = dict(line.lower().split(b": ", 1) for line in first.split(b"\r\n")[1:-2])
        if got.status == OK:
            said = await reader.readuntil(b"data: ")
            got.first_s = time.monotonic() - got.at_s
            said += await reader.readuntil(LAST_CHUNK)
            got.ends = said.count(DONE)
            got.is_right = _text(said) == oracle_text(ask.seed, ask.tokens)
        else:
            got.said = (await reader.readexactly(int(headers[b"content-length"]))).decode()
            got.retry_after_s = float(headers.get(b"retry-after", 0))
        got.end_s = time.monotonic() - got.at_s
        if headers.get(b"connection") == b"close":
            writer.close()
        else:
            self._idle.append((reader, writer))

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()


def _text(stream: bytes) -> str:
    """Of the events between the lengths of their chunks."""
    events = [line[6:] for line in stream.split(b"\n") if line.startswith(b"data: {")]
    found: list[Any] = [json.loads(event)["choices"] for event in events]
    return "".join(choice["text"] for choices in found for choice in choices)


async def rush(
    per_s: float, seconds: float, draw: Callable[[Random], Ask], rng: Random,
    send: Callable[[Ask], Coroutine[Any, Any, Got]],
) -> None:  # fmt: skip
    """An open loop of Poisson arrivals for so long; returns when all have been answered."""
    start_s = due_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        while True:
            due_s += rng.expovariate(per_s)
            if due_s >= start_s + seconds:
                return
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            group.create_task(send(draw(rng)))


def share(values: Iterable[bool]) -> float:
    found = list(values)
    return sum(found) / len(found)
