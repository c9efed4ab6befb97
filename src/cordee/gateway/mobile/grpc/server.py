"""The gRPC listener of a gateway, in the gateway's own event loop: its limits, its services with health and reflection, its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cordee.gateway.mobile.grpc.service import MILLISECONDS, SERVICE, ChatService

HEALTH_LOOK_S = 0.25


class GrpcServer:
    """A listener and its services. `is_ready`: whether calls can be answered here, for the health service."""

    def __init__(self, service: ChatService, is_ready: Callable[[], bool]) -> None:
        rules = service.rules
        options = (
            ("grpc.max_receive_message_length", rules.message_bytes_max),
            ("grpc.max_concurrent_streams", rules.calls_max),
            ("grpc.keepalive_time_ms", round(rules.ping_s * MILLISECONDS)),
            ("grpc.keepalive_timeout_ms", round(rules.pong_s_max * MILLISECONDS)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", round(rules.client_ping_s_min * MILLISECONDS)),
            ("grpc.so_reuseport", 0),  # two gateways at one address are a mistake, and are to be told so
        )
        self._service = service
        self._is_ready = is_ready
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=rules.calls_max)
        self._server.add_generic_rpc_handlers((service.handlers(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        self._looking: asyncio.Task[None] | None = None

    async def listen(self, address: str) -> None:
        """Raises OSError when the address cannot be had."""
        try:
            self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen for gRPC on {address}: choose another --grpc, or end what uses it") from error
        await self._tell(self._is_ready())
        await self._server.start()
        self._looking = asyncio.get_running_loop().create_task(self._look())

    def stop_accepting(self) -> None:
        """No new calls; those that run go on."""
        self._service.is_closing = True

    async def close(self, patience_s: float) -> None:
        """What still runs may take `patience_s`."""
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
        await self._health.enter_graceful_shutdown()
        await self._server.stop(patience_s)

    async def _look(self) -> None:
        told = self._is_ready()
        await self._tell(told)
        while True:
            await asyncio.sleep(HEALTH_LOOK_S)
            ready = self._is_ready()
            if ready != told:
                told = ready
                await self._tell(ready)

    async def _tell(self, ready: bool) -> None:
        statuses = health_pb2.HealthCheckResponse
        for service in (health.OVERALL_HEALTH, SERVICE):
            await self._health.set(service, statuses.SERVING if ready else statuses.NOT_SERVING)
