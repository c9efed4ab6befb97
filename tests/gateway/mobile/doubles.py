"""The in-memory gateway as a mobile one: WebSockets at its port, gRPC at another."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

from websockets.sync.client import ClientConnection, connect

from cordee.adapters.clock import LoopClock
from cordee.domain.caller import Caller
from cordee.gateway.calls import ShapeOf
from cordee.gateway.front import presented_key
from cordee.gateway.mobile.grpc.server import GrpcServer
from cordee.gateway.mobile.grpc.service import ChatService, GrpcRules
from cordee.gateway.mobile.realtime import Realtime, RealtimeRules
from cordee.gateway.replies import REALTIME_PATH, no_stream
from cordee.http.exchange import Outlet
from cordee.http.handshake import WebSocketRules
from cordee.wire.shape import Usage
from tests.gateway.doubles import KEY, PATIENCE_S, Directory, Gateway
from tests.ports import free_port

HEADERS = {"Authorization": f"Bearer {KEY}"}
RULES = RealtimeRules(
    origins=frozenset({b"https://app.example"}),
    calls_max=2,
    identify_s=0.1,
    socket=WebSocketRules(message_bytes_max=4096),
)


def ask(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}


class Watched(Directory):
    """Keys can be taken away."""

    def __init__(self) -> None:
        self.revoked: set[bytes] = set()

    def identify(self, key: bytes) -> Caller | None:
        return None if key in self.revoked else super().identify(key)


class MobileGateway(Gateway):
    """`resumed`: what clients came back for."""

    def __init__(self, grpc_rules: GrpcRules | None = None) -> None:
        super().__init__()
        self.keys = Watched()
        self.realtime: Realtime
        self.grpc: GrpcServer
        self.grpc_port = free_port()
        self.is_ready = True
        self.resumed: list[tuple[str, str]] = []
        self._grpc_rules = grpc_rules or GrpcRules()

    async def _build(self) -> None:
        await super()._build()
        self.clock = LoopClock(asyncio.get_running_loop())
        self.realtime = Realtime(RULES, self.keys, self.calls.chat, self._resume, presented_key)
        self.front.paths.add(b"GET", REALTIME_PATH, self.realtime.connect)
        self.server.switching.add(REALTIME_PATH)
        service = ChatService(self._grpc_rules, self.keys, self.calls.chat, self._resume)
        self.grpc = GrpcServer(service, lambda: self.is_ready)
        await self.grpc.listen(f"127.0.0.1:{self.grpc_port}")

    def __enter__(self) -> MobileGateway:
        super().__enter__()
        return self

    def __exit__(self, *about: Any) -> None:
        asyncio.run_coroutine_threadsafe(self.grpc.close(0), self._loop).result(PATIENCE_S)
        super().__exit__(*about)

    def _resume(self, stream: str, position: str, exchange: Outlet, caller: Caller, shape_of: ShapeOf) -> None:
        self.resumed.append((stream, position))
        shape = shape_of(stream, "m", "fp")
        if stream == "unknown":
            exchange.answer(no_stream())
            return
        exchange.begin(200, b"")
        exchange.write(shape.placed(shape.delta(0, "rest", None), stream, "9.ab"))
        exchange.end(shape.usage(Usage(1, 2)) + shape.done)

    def limit(self, **limits: Any) -> None:
        self.call(lambda: setattr(self.realtime, "rules", replace(RULES, **limits)))

    def open(self, **options: Any) -> ClientConnection:
        options.setdefault("additional_headers", HEADERS)
        connection: ClientConnection = connect(
            f"ws://127.0.0.1:{self.port}/v1/realtime/chat", open_timeout=PATIENCE_S, **options
        )
        return connection


def say(socket: ClientConnection, **message: Any) -> None:
    socket.send(json.dumps(message))


def hear(socket: ClientConnection) -> dict[str, Any]:
    heard: dict[str, Any] = json.loads(socket.recv(timeout=PATIENCE_S))
    return heard


def hear_until(socket: ClientConnection, id: str, *types: str) -> list[dict[str, Any]]:
    """The messages of one call, up to its end."""
    heard: list[dict[str, Any]] = []
    while not heard or heard[-1]["type"] not in (types or ("call.completed", "call.failed")):
        message = hear(socket)
        if message.get("id") == id:
            heard.append(message)
    return heard
