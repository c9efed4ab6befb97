"""What a mobile gateway has beside HTTP: WebSockets on the same listener, and gRPC on one of its own.

Imported by mobile gateways only: a web gateway has no use for the libraries.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from cordee.compose.following import Following
from cordee.config.launch import GatewayLaunch
from cordee.config.tree import Config
from cordee.domain.caller import Caller
from cordee.gateway.calls import Calls, ShapeOf
from cordee.gateway.front import Front, presented_key
from cordee.gateway.metrics import Metrics
from cordee.gateway.mobile.grpc.server import GrpcServer
from cordee.gateway.mobile.grpc.service import ChatService, GrpcRules
from cordee.gateway.mobile.proto import publish
from cordee.gateway.mobile.realtime import Realtime, RealtimeRules, ResumeAct
from cordee.gateway.replies import REALTIME_PATH, no_stream
from cordee.gateway.revocation import Revocations
from cordee.http.exchange import Outlet
from cordee.http.handshake import WebSocketRules
from cordee.http.request import Request
from cordee.ports import Directory

log = logging.getLogger(__name__)


def realtime_rules(config: Config) -> RealtimeRules:
    r = config.realtime
    socket = WebSocketRules(r.message_bytes_max, r.ping_s, r.pong_s_max, r.stall_s_max, r.compression)
    return RealtimeRules(frozenset(origin.encode() for origin in r.origins), r.calls_max, r.identify_s, socket)


def grpc_rules(config: Config) -> GrpcRules:
    g = config.grpc
    return GrpcRules(
        g.message_bytes_max, g.calls_max, g.buffer_bytes_max, g.ping_s, g.pong_s_max, g.client_ping_s_min
    )  # fmt: skip


async def open_mobile(
    config: Config, launch: GatewayLaunch, front: Front, directory: Directory, calls: Calls, metrics: Metrics,
    following: Following, is_ready: Callable[[], bool], revocations: Revocations,
) -> GrpcServer | None:  # fmt: skip
    """WebSockets at REALTIME_PATH, where the server must let connections switch; gRPC where `launch` says. Raises OSError when
    its address cannot be had."""
    resume = _resume_of(calls)
    realtime = Realtime(realtime_rules(config), directory, calls.chat, resume, presented_key)
    front.paths.add(b"GET", REALTIME_PATH, realtime.connect)
    following.follow(("realtime.",), realtime_rules, realtime.follow)
    metrics.more.append(realtime.counted)
    revocations.more.append(realtime.end_revoked)
    if not launch.grpc:
        return None
    service = ChatService(grpc_rules(config), directory, calls.chat, resume)
    following.follow(("grpc.buffer_bytes_max",), grpc_rules, service.follow)
    metrics.more.append(service.counted)
    publish(front.paths)
    server = GrpcServer(service, is_ready)
    await server.listen(launch.grpc)
    log.info("gateway %s speaks gRPC on %s", launch.name, launch.grpc)
    return server


def _resume_of(calls: Calls) -> ResumeAct:
    def resume(stream: str, position: str, exchange: Outlet, caller: Caller, shape_of: ShapeOf) -> None:
        if calls.keeping is None:  # nothing outlives this gateway, so nothing can be gone on with
            exchange.answer(no_stream())
            return
        last = {b"last-event-id": f"{stream}.{position}".encode()} if position else {}
        request = Request(b"GET", "1.1", last, keep_alive=True)
        request.path = b"/v1/calls/%s/events" % stream.encode()
        calls.keeping.resumes.by_get(request, exchange, caller, shape_of)

    return resume
