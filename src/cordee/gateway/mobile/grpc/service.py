"""The service cordee.v1.Chat: who may call, which RPC becomes which request, and which gRPC status stands for which trouble.

The calls go the ordinary way: `Calls` gets the request that the HTTP endpoint would
get, and an outlet whose events are drained into the RPC.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from cordee.domain.caller import INFERENCE, Caller
from cordee.gateway.calls import ShapeOf
from cordee.gateway.mobile.grpc.exchange import RpcExchange
from cordee.gateway.replies import refusal
from cordee.http.exchange import Answer, Outlet
from cordee.http.request import Request
from cordee.ports import Directory
from cordee.wire.errors import Invalid, retry_after_in
from cordee.wire.v1.chat_pb2 import DESCRIPTOR, ChatRequest, ResumeRequest
from cordee.wire.v1.shape import body_of, error_of, headers_of

log = logging.getLogger(__name__)
SERVICE: str = DESCRIPTOR.services_by_name["Chat"].full_name
CHAT = b"/v1/chat/completions"
MILLISECONDS = 1000
TIMEOUT_S_MAX = 86_400.0
BEARER = "bearer "
KEY_REUSED = "idempotency_key_reused"  # the one conflict that asking again does not end
VISIBLE = re.compile(r"[!-~]*")
NO_KEY = "send the API key in the metadata: 'authorization: Bearer KEY', or 'x-api-key: KEY'"
CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.ABORTED,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}

ChatAct = Callable[[Request, Outlet, Caller, ShapeOf], None]
ResumeAct = Callable[[str, str, Outlet, Caller, ShapeOf], None]  # of a stream and a position in it
Act = Callable[[RpcExchange, Caller], None]
Context = Any  # grpc.aio.ServicerContext, which has no types


@dataclass(frozen=True, slots=True)
class GrpcRules:
    """See config.sections.entrances.Grpc."""

    message_bytes_max: int = 4 * 1024 * 1024
    calls_max: int = 4096
    buffer_bytes_max: int = 64 * 1024
    ping_s: float = 30.0
    pong_s_max: float = 20.0
    client_ping_s_min: float = 10.0


class ChatService:
    """The RPCs. `chat` makes a call of a request, `resume` goes on with one."""

    def __init__(self, rules: GrpcRules, directory: Directory, chat: ChatAct, resume: ResumeAct) -> None:
        self.rules = rules
        self._directory = directory
        self._chat = chat
        self._resume = resume
        self._open = self._begun = 0
        self.is_closing = False  # calls that run may end; no others begin

    def follow(self, rules: GrpcRules) -> None:
        """Calls that come from now on have these limits; those of the listener stay."""
        self.rules = rules

    def counted(self) -> Iterable[Metric]:
        """For gateway.metrics."""
        yield GaugeMetricFamily("cordee_rpcs_open", "RPCs under way.", value=self._open)
        yield CounterMetricFamily("cordee_rpcs", "RPCs that came in.", value=self._begun)

    async def create(self, request: ChatRequest, context: Context) -> None:
        def act(exchange: RpcExchange, caller: Caller) -> None:
            self._chat(_chat_request(request, context, stream=True), exchange, caller, exchange.shape)

        await self._stream(context, act, is_resumable=False)

    async def resume(self, request: ResumeRequest, context: Context) -> None:
        def act(exchange: RpcExchange, caller: Caller) -> None:
            stream, position = _place(request)
            self._resume(stream, position, exchange, caller, exchange.shape)

        await self._stream(context, act, is_resumable=True)

    async def complete(self, request: ChatRequest, context: Context) -> bytes:
        def act(exchange: RpcExchange, caller: Caller) -> None:
            self._chat(_chat_request(request, context, stream=False), exchange, caller, exchange.shape)

        async with self._exchange(context, act, is_unary=True) as exchange:
            async with aclosing(exchange.events()) as events:  # type: ignore[type-var]
                answer = await anext(events, None)
            if answer is None:
                await _refuse(context, exchange.refused or refusal(500, "the call ended without an answer"))
            return answer

    def handlers(self) -> grpc.GenericRpcHandler:
        of: Any = grpc
        methods = {
            "Create": of.unary_stream_rpc_method_handler(self.create, request_deserializer=ChatRequest.FromString),
            "Resume": of.unary_stream_rpc_method_handler(self.resume, request_deserializer=ResumeRequest.FromString),
            "Complete": of.unary_unary_rpc_method_handler(self.complete, request_deserializer=ChatRequest.FromString),
        }
        return of.method_handlers_generic_handler(SERVICE, methods)

    async def _stream(self, context: Context, act: Act, *, is_resumable: bool) -> None:
        async with self._exchange(context, act, is_resumable=is_resumable) as exchange:
            async with aclosing(exchange.events()) as events:  # type: ignore[type-var]
                async for event in events:
                    await context.write(event)
            if exchange.refused is not None:
                await _refuse(context, exchange.refused)

    @asynccontextmanager
    async def _exchange(
        self, context: Context, act: Act, *, is_unary: bool = False, is_resumable: bool = False
    ) -> AsyncIterator[RpcExchange]:
        """The call begins; what is refused at once ends the RPC here. However the RPC ends, the call learns of it."""
        self._begun += 1
        self._open += 1
        exchange = RpcExchange(self.rules.buffer_bytes_max, is_unary=is_unary, is_resumable=is_resumable)
        try:
            caller = self._identify(context)
            if isinstance(caller, Answer):
                await _refuse(context, caller)
            if self.is_closing:
                await _refuse(context, refusal(503, "this gateway is shutting down; ask again", code="shutting_down"))
            try:
                act(exchange, caller)
            except Invalid as fault:
                exchange.answer(refusal(fault.status, fault.message, fault.param, fault.code))
            except Exception:
                log.exception("an RPC met a mistake of ours")
                exchange.answer(refusal(500, "an internal error ended this call; the log of this gateway says more"))
            yield exchange
        finally:
            self._open -= 1
            exchange.leave()

    def _identify(self, context: Context) -> Caller | Answer:
        found: set[str] = set()
        for name, value in context.invocation_metadata() or ():
            if name == "authorization" and value[: len(BEARER)].lower() == BEARER:
                found.add(value[len(BEARER) :].strip())
            elif name == "x-api-key":
                found.add(value)
        if len(found) > 1:
            return refusal(400, "two different API keys were sent; send one", "authorization")
        key = found.pop() if found else ""
        caller = self._directory.identify(key.encode("utf-8", "surrogateescape")) if key else None
        if caller is None:
            return refusal(401, "incorrect API key provided" if key else NO_KEY, code="invalid_api_key")
        if INFERENCE not in caller.scopes:
            return refusal(403, f"this key lacks the scope {INFERENCE!r}", code="insufficient_scope")
        return caller


def _chat_request(request: ChatRequest, context: Context, *, stream: bool) -> Request:
    """Raises Invalid."""
    headers = headers_of(request)
    remaining_s = context.time_remaining()
    if remaining_s is not None and remaining_s < TIMEOUT_S_MAX:
        if remaining_s <= 0:
            raise Invalid("the deadline had passed when the call came in", code="deadline_exceeded", status=504)
        headers[b"x-request-timeout"] = b"%.3f" % max(remaining_s, 1 / MILLISECONDS)
    if not stream and b"idempotency-key" not in headers:
        headers.setdefault(b"x-cordee-resumable", b"0")  # there is nothing to resume in an answer that comes at once
    made = Request(b"POST", "1.1", headers, keep_alive=True)
    made.path, made.body = CHAT, body_of(request, stream=stream)
    return made


def _place(request: ResumeRequest) -> tuple[str, str]:
    """The stream and the position. Raises Invalid for what cannot be one."""
    if not request.stream or not VISIBLE.fullmatch(request.stream) or not VISIBLE.fullmatch(request.position):
        raise Invalid("there is no such stream, or it is not yours", "stream", code="stream_not_found", status=404)
    return request.stream, request.position


async def _refuse(context: Context, answer: Answer) -> NoReturn:
    """End the RPC with the status that stands for the answer's."""
    error = error_of(answer.status, answer.body)
    trailing: list[tuple[str, str | bytes]] = [("cordee-error-bin", error.SerializeToString())]
    retry = retry_after_in(answer.headers)
    if retry:
        trailing.append(("retry-after", retry.decode()))
    code = CODES.get(answer.status, grpc.StatusCode.INTERNAL)
    if error.code == KEY_REUSED:
        code = grpc.StatusCode.ALREADY_EXISTS
    await context.abort(code, error.message, tuple(trailing))
    raise AssertionError("abort has raised")
