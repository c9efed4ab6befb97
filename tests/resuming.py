"""A client that comes back: it reads a stream, and when the connection breaks it asks the next gateway for the rest."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field, replace
from typing import Any

from tests.rig import KEY

RETRY_S = 0.05  # where the stream gave no hint
RECONNECTS_MAX = 50


@dataclass
class Stream:
    """One answer as its client got it. `resumed_s`: from the beginning of each reconnection to its first event. `was_kept`:
    no gateway said that it cannot be resumed. `restarts`: it could not be resumed and was asked for anew, without what was there before;
    `put_off`: reconnections that were told to come later."""

    body: dict[str, Any]
    events: list[dict[str, Any]] = field(default_factory=list)
    last_id: str = ""
    stream_id: str = ""
    done: int = 0
    retry_s: float = RETRY_S
    resumed_s: list[float] = field(default_factory=list)
    refused: list[tuple[int, bytes]] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    was_kept: bool = True
    restarts: int = 0
    put_off: int = 0

    @property
    def text(self) -> str:
        return self.text_of(0)

    def text_of(self, choice: int) -> str:
        return "".join(
            c["delta"].get("content") or "" for e in self.events for c in e["choices"] if c["index"] == choice
        )

    @property
    def finishes(self) -> list[str]:
        return [c["finish_reason"] for e in self.events for c in e["choices"] if c["finish_reason"]]

    @property
    def roles(self) -> int:
        return sum("role" in c["delta"] for e in self.events for c in e["choices"])

    def branch(self) -> Stream:
        """Another connection of the same client, which has had as much."""
        return replace(
            self, events=list(self.events), resumed_s=[], refused=[], begun=asyncio.Event(), restarts=0, put_off=0
        )

    async def follow(
        self, ports: list[int], path: str = "/v1/chat/completions", wait_for: int = 4, **headers: str
    ) -> None:
        """To the end, over any of `ports` in turn. `begun` is set when `wait_for` events are there. Raises AssertionError when it
        does not end."""
        for number in range(RECONNECTS_MAX):
            since = time.monotonic()
            if self.last_id:
                sent = {"Last-Event-ID": self.last_id}
                content = b""
            else:
                self.restarts += bool(self.events)
                self.events.clear()  # nothing says where the new answer would go on: it is another one
                sent = {"X-Cordee-Resumable": "1", **{name.replace("_", "-"): value for name, value in headers.items()}}
                content = json.dumps({**self.body, "stream": True}).encode()
            with contextlib.suppress(OSError):
                await self._read(ports[number % len(ports)], path, sent, content, wait_for, since if number else None)
            if self.done or self.refused:
                self.begun.set()
                return
            await asyncio.sleep(self.retry_s)
        raise AssertionError(f"not ended after {RECONNECTS_MAX} connections: {len(self.events)} events")

    async def _read(
        self, port: int, path: str, headers: dict[str, str], content: bytes, wait_for: int, since: float | None
    ) -> None:  # fmt: skip
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            # HTTP/1.0, so that the body is what comes until the end of the connection
            head = f"POST {path} HTTP/1.0\r\nHost: h\r\nAuthorization: Bearer {KEY}\r\n{lines}Content-Length: {len(content)}\r\n\r\n"
            writer.write(head.encode() + content)
            status = int((await reader.readline()).split()[1] or 0)
            while line := (await reader.readline()).strip().lower():
                self.was_kept = self.was_kept and line != b"x-cordee-resumable: false"
            if status == 503 and "Last-Event-ID" in headers:
                self.put_off += 1
                return
            if status != 200:
                self.refused.append((status, await reader.read()))
                return
            await self._events(reader, wait_for, since)
        except IndexError:
            raise ConnectionError("broken before its status") from None
        finally:
            writer.close()

    async def _events(self, reader: asyncio.StreamReader, wait_for: int, since: float | None) -> None:
        id = ""
        while line := await reader.readline():
            if not line.endswith(b"\n"):
                return  # cut in the middle: as if it had not come
            if line.startswith(b"id: "):
                id = line[4:].strip().decode()
            elif line.startswith(b"retry: "):
                self.retry_s = int(line[7:]) / 1000
            elif line.startswith(b"data: "):
                data = line[6:].strip()
                if await reader.readline() != b"\n":
                    return  # the event was not whole
                if since is not None:
                    self.resumed_s.append(time.monotonic() - since)
                    since = None
                self.last_id = id or self.last_id
                self.stream_id = self.last_id.split(".")[0]
                if data == b"[DONE]":
                    self.done += 1
                    return
                self.events.append(json.loads(data))
                if len(self.events) >= wait_for:
                    self.begun.set()
