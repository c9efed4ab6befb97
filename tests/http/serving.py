"""A real server on a loopback port, in a thread with a loop of its own, and raw bytes to it: what a stranger can send."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

import uvloop

from cordee.http.exchange import Answer, Exchange
from cordee.http.request import Limits, Rejection, Request
from cordee.http.server import Server

PATIENCE_S = 30.0
TEXT = b"content-type: text/plain\r\n"


class Handler:
    """Answers every request with its method, path, query and body, and remembers it. Paths starting with /hold are kept
    unanswered; those starting with /no are refused before their body."""

    def __init__(self) -> None:
        self.admitted: list[bytes] = []
        self.handled: list[Request] = []
        self.held: list[Exchange] = []
        self.arrived = threading.Condition()

    @property
    def paths(self) -> list[bytes]:
        return [request.path for request in self.handled]

    def admit(self, request: Request) -> Answer | None:
        self.admitted.append(request.path)
        return Answer(403, TEXT, b"no") if request.path.startswith(b"/no") else None

    def handle(self, request: Request, exchange: Exchange) -> None:
        with self.arrived:
            self.handled.append(request)
            if request.path.startswith(b"/hold"):
                self.held.append(exchange)
            self.arrived.notify_all()
        if isinstance(request.caller, Answer):
            exchange.answer(request.caller)
        elif not request.path.startswith(b"/hold"):
            exchange.answer(Answer(200, TEXT, b"%s %s" % (request.method, request.path) + b"|" + request.body))

    def rejected(self, rejection: Rejection) -> Answer:
        return Answer(rejection.status, TEXT, rejection.message.encode())

    def wait_for(self, requests: int) -> None:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.handled) >= requests, PATIENCE_S), "the request did not come"

    def forget(self) -> None:
        self.admitted.clear()
        self.handled.clear()
        self.held.clear()


class Serving:
    """`with Serving(limits) as serving:` — `serving.handler` saw what was parsed."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.handler = Handler()
        self.server: Server
        self.port = 0
        self.faults: list[str] = []  # whatever the loop had to catch: must stay empty
        self._limits = limits or Limits()
        self._loop = uvloop.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Serving:
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.call(self.server.abort)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def call(self, what: Callable[[], object]) -> None:
        """Run something on the loop, and wait until it ran."""
        done = threading.Event()

        def run() -> None:
            what()
            done.set()

        self._loop.call_soon_threadsafe(run)
        assert done.wait(PATIENCE_S)

    def connect(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(lambda loop, context: self.faults.append(str(context)))
        self._loop.run_until_complete(self._listen())
        self._ready.set()
        self._loop.run_forever()

    async def _listen(self) -> None:
        self.server = Server(self.handler, self._limits)
        await self.server.listen("127.0.0.1", 0)
        self.port = self.server.addresses[0][1]


def read_to_end(client: socket.socket) -> bytes:
    """Everything until the server closes. A reset after an answer is an end too."""
    received = b""
    try:
        while data := client.recv(65536):
            received += data
    except ConnectionResetError:
        assert received, "reset before an answer"
    return received


def read_answer(client: socket.socket) -> tuple[int, dict[bytes, bytes], bytes]:
    """One answer with a length, and not a byte more."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        assert byte, f"the connection ended in the head: {head!r}"
        head += byte
    line, *lines = head[:-4].split(b"\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (each.partition(b":") for each in lines)}
    size = int(headers.get(b"content-length", b"0"))
    body = b""
    while len(body) < size:
        data = client.recv(size - len(body))
        assert data, "the connection ended in the body"
        body += data
    return int(line.split(b" ")[1]), headers, body


def statuses(received: bytes) -> list[int]:
    """Of every answer in what was received."""
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


@contextmanager
def conversation(serving: Serving, data: bytes) -> Iterator[socket.socket]:
    with serving.connect() as client:
        client.sendall(data)
        yield client
