"""A small HTTP/3 client over aioquic, for tests: one connection, requests with their whole answers and when each piece came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent

PATIENCE_S = 20.0


@dataclass
class Answer:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def status(self) -> int:
        return int(self.headers[b":status"])

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


class Client(QuicConnectionProtocol):
    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._http = H3Connection(self._quic)
        self._answers: dict[int, Answer] = {}

    def quic_event_received(self, event: QuicEvent) -> None:
        for one in self._http.handle_event(event):
            self._received(one)

    def _received(self, event: H3Event) -> None:
        answer = self._answers.get(getattr(event, "stream_id", -1))
        if answer is None:
            return
        if isinstance(event, HeadersReceived):
            answer.headers.update(event.headers)
        if isinstance(event, DataReceived) and event.data:
            answer.pieces.append(event.data)
        if getattr(event, "stream_ended", False):
            answer.ended.set()

    async def ask(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer:
        stream = self._quic.get_next_available_stream_id()
        answer = self._answers[stream] = Answer()
        head = [
            (b":method", method.encode()),
            (b":scheme", b"https"),
            (b":authority", b"localhost"),
            (b":path", path.encode()),
        ]
        head += [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        self._http.send_headers(stream, head, end_stream=not body)
        if body:
            self._http.send_data(stream, body, end_stream=True)
        self.transmit()
        await asyncio.wait_for(answer.ended.wait(), PATIENCE_S)
        return answer


@asynccontextmanager
async def client(port: int, trusted: Path) -> AsyncIterator[Client]:
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name="localhost")
    configuration.load_verify_locations(str(trusted))
    async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Client) as connection:
        assert isinstance(connection, Client)
        yield connection
