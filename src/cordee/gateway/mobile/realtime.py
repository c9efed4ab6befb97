"""WebSocket at /v1/realtime/chat: many calls on one connection, each through the ordinary path.

Decides who may connect (a key; for browsers an origin that is known), how many calls one connection carries, and which
message becomes which request. What the calls do is decided where it is for all calls: `Calls` gets the same request that the
HTTP endpoint gets, and an outlet that puts the answer's events into messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import assert_never

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from websockets.frames import CloseCode

from cordee.domain.caller import INFERENCE, Caller
from cordee.gateway.calls import ShapeOf
from cordee.gateway.mobile.realtime_call import CallOutlet
from cordee.gateway.replies import refusal
from cordee.http.exchange import Answer, Exchange, Outlet
from cordee.http.handshake import WebSocketRules, handshake
from cordee.http.request import Request
from cordee.http.websocket import WebSocket
from cordee.ports import Directory
from cordee.wire import errors, realtime
from cordee.wire.errors import Invalid
from cordee.wire.realtime import CallCancel, CallCreate, CallResume, Ping

CHAT = b"/v1/chat/completions"
SUBPROTOCOL = "cordee.v1"
SHUTTING_DOWN = CloseCode.GOING_AWAY, "this gateway is shutting down; connect again"
REVOKED = CloseCode.POLICY_VIOLATION, "the API key is no longer valid"

ChatAct = Callable[[Request, Outlet, Caller, ShapeOf], None]
ResumeAct = Callable[[str, str, Outlet, Caller, ShapeOf], None]  # of a stream and a position in it


@dataclass(frozen=True, slots=True)
class RealtimeRules:
    """See config.sections.entrances.Realtime. `origins`: pages of other hosts that may connect; `identify_s`: how long a revoked key still
    has its connection."""

    origins: frozenset[bytes] = frozenset()
    calls_max: int = 16
    identify_s: float = 10.0
    socket: WebSocketRules = field(default_factory=WebSocketRules)


class Realtime:
    """All WebSockets of a gateway. `chat` makes a call of a request, `resume` goes on with one."""

    def __init__(
        self, rules: RealtimeRules, directory: Directory, chat: ChatAct, resume: ResumeAct,
        key_of: Callable[[Request], bytes | Answer],
    ) -> None:  # fmt: skip
        self.rules = rules
        self.chat = chat
        self.resume = resume
        self.directory = directory
        self.sessions: set[RealtimeSession] = set()
        self.messages = 0
        self._key_of = key_of

    def follow(self, rules: RealtimeRules) -> None:
        """Connections that come from now on have these limits."""
        self.rules = rules

    def counted(self) -> Iterable[Metric]:
        """For gateway.metrics."""
        yield GaugeMetricFamily("cordee_realtime_connections", "WebSockets that are open.", value=len(self.sessions))
        yield CounterMetricFamily("cordee_realtime_messages", "Messages of clients.", value=self.messages)

    def end_revoked(self, goes: Callable[[Caller], bool]) -> None:
        """Connections of those who may not make calls any more end. `goes` tells who that is."""
        for session in list(self.sessions):
            if goes(session.caller):
                session.revoked()

    def connect(self, request: Request, exchange: Exchange, caller: Caller | None) -> None:
        """GET /v1/realtime/chat."""
        assert caller is not None
        headers = request.headers
        origin = headers.get(b"origin")
        if origin is not None and not self._is_known(origin, headers.get(b"host", b"")):
            exchange.answer(
                refusal(403, "pages of this origin may not connect; realtime.origins lists those that may", "Origin")
            )
            return
        key = self._key_of(request)
        if isinstance(key, Answer):
            exchange.answer(key)
            return
        protocol, response = handshake(request, self.rules.socket, SUBPROTOCOL)
        if response.status_code != 101:
            message = bytes(response.body or b"").decode().strip() or "this is not a WebSocket handshake"
            answer = refusal(response.status_code, message)
            upgrade = b"upgrade: websocket\r\n" if response.status_code == 426 else b""
            exchange.answer(Answer(answer.status, answer.headers + upgrade, answer.body))
            return
        socket = WebSocket(protocol, self.rules.socket)
        session = RealtimeSession(self, socket, caller, key)
        socket.serve(session)
        self.sessions.add(session)
        exchange.switch(response.serialize(), socket)

    def _is_known(self, origin: bytes, host: bytes) -> bool:
        """The gateway's own page, whatever its scheme is at the edge, or one that the configuration lists."""
        own = origin.partition(b"://")[2].lower() == host.lower() and origin.startswith((b"http://", b"https://"))
        return own or origin in self.rules.origins


class RealtimeSession:
    """http.websocket.Session: one connection and its calls, by the client's names."""

    __slots__ = ("_identify_s", "_is_closing", "_key", "_realtime", "_why", "caller", "calls", "socket")

    def __init__(self, realtime: Realtime, socket: WebSocket, caller: Caller, key: bytes) -> None:
        self._realtime = realtime
        self.caller = caller
        self._key = key
        self._identify_s: float | None = None
        self._is_closing = False
        self._why = SHUTTING_DOWN
        self.socket = socket
        self.calls: dict[str, CallOutlet] = {}

    # -- http.websocket.Session

    def message(self, data: bytes) -> None:
        self._realtime.messages += 1
        try:
            said = realtime.read(data)
        except Invalid as fault:
            self._wrong(realtime.refused_type(fault))
            return
        match said:
            case CallCreate():
                self._create(said)
            case CallResume():
                self._resume(said)
            case CallCancel():
                call = self.calls.get(said.id)  # one that has just ended is not there, and that is no fault
                if call is not None:
                    call.cancel()
            case Ping():
                self.socket.send(realtime.PONG)
            case _:
                assert_never(said)

    def writable(self) -> None:
        for call in list(self.calls.values()):
            if call.listener is not None:
                call.listener.writable()

    def swept(self, now_s: float, *, closing: bool) -> None:
        if self._identify_s is None:
            self._identify_s = now_s + self._realtime.rules.identify_s
        elif now_s >= self._identify_s:
            self._identify_s = now_s + self._realtime.rules.identify_s
            caller = self._realtime.directory.identify(self._key)
            if caller is None or INFERENCE not in caller.scopes:
                self.socket.close(*REVOKED)
                return
            self.caller = caller
        if closing:
            self._is_closing = True
            self._leave_if_done()

    def revoked(self) -> None:
        """Its caller has gone: its calls are ended by who ends all calls, and the connection behind the last of them."""
        self._is_closing, self._why = True, REVOKED
        self._leave_if_done()

    def lost(self) -> None:
        self._realtime.sessions.discard(self)
        calls, self.calls = self.calls, {}
        for call in calls.values():
            call.lost()

    # -- calls

    def ended(self, id: str) -> None:
        self.calls.pop(id, None)
        if self._is_closing:
            self._leave_if_done()

    def _create(self, said: CallCreate) -> None:
        headers: dict[bytes, bytes] = {}
        if said.resumable is not None:
            headers[b"x-cordee-resumable"] = b"1" if said.resumable else b"0"
        if said.priority is not None:
            headers[b"x-cordee-priority"] = said.priority.encode()
        if said.timeout_s is not None:
            headers[b"x-request-timeout"] = b"%.3f" % said.timeout_s
        if said.idempotency_key is not None:
            headers[b"idempotency-key"] = said.idempotency_key.encode()
        request = Request(b"POST", "1.1", headers, keep_alive=True)
        request.path = CHAT
        call = self._admit(said.id)
        if call is not None:
            try:
                request.body = realtime.streaming(said.request)
                self._realtime.chat(request, call, self.caller, call.shape)
            except Invalid as fault:
                call.refuse(fault)

    def _resume(self, said: CallResume) -> None:
        call = self._admit(said.id if said.id is not None else said.stream)
        if call is not None:
            call.is_resumable = True
            try:
                self._realtime.resume(said.stream, said.position or "", call, self.caller, call.shape)
            except Invalid as fault:
                call.refuse(fault)

    def _admit(self, id: str) -> CallOutlet | None:
        if id in self.calls:
            self._wrong(
                Invalid(f"the call {id[:64]!r} is still running on this connection; give each its own id", "id")
            )
            return None
        call = CallOutlet(self, id)
        calls_max = self._realtime.rules.calls_max
        if self._is_closing:
            call.refuse(Invalid("this gateway is shutting down; connect again", status=503, code="shutting_down"))
            return None
        if len(self.calls) >= calls_max:
            what = f"{calls_max} calls run on this connection, and it carries no more; wait for one to end"
            call.refuse(Invalid(what, status=429, code="concurrency_limit_exceeded"))
            return None
        self.calls[id] = call
        return call

    def _wrong(self, fault: Invalid) -> None:
        self.socket.send(realtime.wrong(errors.body(fault.status, fault.message, fault.param, fault.code)))

    def _leave_if_done(self) -> None:
        if not self.calls:
            self.socket.close(*self._why)
