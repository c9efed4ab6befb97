"""One request on its way through to a service, and its answer on the way back. Decides when it is asked of another process.

Everything is pushed as it comes, in both directions, and whoever is faster is held back: of a file of any size a few buffers are here.
A request that may have reached a service is not passed on a second time, unless it only reads and nothing of its answer has left: what
asks to change something could be done twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cordee.domain.caller import Caller
from cordee.domain.outcome import Why
from cordee.gateway.passage.heads import answer_head
from cordee.gateway.replies import refusal
from cordee.http.client import Exchange as Pull
from cordee.http.client import Streaming
from cordee.http.exchange import Answer, Exchange
from cordee.http.request import Request
from cordee.wire.shape import error_event

if TYPE_CHECKING:
    from cordee.gateway.passage.ways import Ways

READING = frozenset({b"GET", b"HEAD"})
NOT_AGAIN = b"x-should-retry: false\r\n"  # the official clients would repeat what may have been done already
LOST = "service_lost"
AWAY = "service_away"


class Carry:
    """http.client.Receiver and Source towards the service; http.exchange.Listener and http.inflow.Taker towards the client.
    `head` makes the request's head, whether its connection is for it alone or not; `ended` hears the status, 0 where there was none."""

    __slots__ = (
        "_answer_s", "_ended", "_exchange", "_head", "_id", "_index", "_is_begun", "_is_events", "_pull", "_request", "_status", "_timer",
        "_tried", "_ways", "caller", "what",
    )  # fmt: skip

    def __init__(
        self, request: Request, exchange: Exchange, ways: Ways, id: str, what: str, head: Callable[[bool], bytes], answer_s: float,
        ended: Callable[[Carry, int], None], caller: Caller | None = None,
    ) -> None:  # fmt: skip
        self.caller = caller
        self.what = what  # the service's name
        self._request = request
        self._exchange = exchange
        self._ways = ways
        self._id = id
        self._head = head
        self._answer_s = answer_s
        self._ended: Callable[[Carry, int], None] | None = ended
        self._tried: list[int] = []
        self._index = -1
        self._is_begun = False  # the answer
        self._is_events = False  # it is a stream of them
        self._status = 0
        self._pull: Pull | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._exchange.listener = self
        self._next()

    def close(self) -> None:
        """The gateway ends."""
        self._break(503, "this gateway ends before the service has answered; ask again", AWAY)

    def revoke(self) -> None:
        """The key or token with which this was asked is none any more."""
        self._break(401, "the key or token of this request was revoked", Why.REVOKED.value)

    def fell_silent(self, index: int) -> None:
        """A process says nothing any more: who only reads, and has heard nothing yet, need not wait for it."""
        if (
            index == self._index
            and not self._is_begun
            and self._may_repeat(ran=True)
            and len(self._tried) < len(self._ways)
        ):
            if self._pull is not None:
                self._pull.cancel()
            self._next()

    def _next(self) -> None:
        picked = self._ways.pick(self._tried)
        if picked is None:
            self._break(503, f"the {self.what} service is away at the moment; ask again in a second", AWAY)
            return
        self._index, pool = picked
        self._tried.append(self._index)
        request = self._request
        if request.inflow is not None:
            self._pull = pool.send_once(self._head(True), self, self)
            return
        self._wait()
        if request.method in READING:
            self._pull = pool.send(self._head(False) + request.body, self)
        else:
            self._pull = pool.send_once(self._head(True) + request.body, self)

    def _wait(self) -> None:
        """The request has left, or the service takes no more of it: from now on it has so long."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._answer_s, self._late)

    def _late(self) -> None:
        self._timer = None
        self._break(504, f"the {self.what} service has not answered within {self._answer_s:g} s", LOST)

    def _may_repeat(self, *, ran: bool) -> bool:
        return not ran or (self._request.method in READING and self._request.inflow is None)

    # -- http.client.Receiver

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        lines, length, is_known = answer_head(status, headers, self._id)
        self._is_begun = True
        self._is_events = any(
            name == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers
        )
        self._stop_timer()
        if is_known:
            self._exchange.begin_sized(status, lines, length)
        else:
            self._exchange.begin(status, lines)
        self._status = status

    def body(self, data: bytes) -> None:
        exchange = self._exchange
        exchange.write(data)
        if exchange.is_slow and self._pull is not None:
            self._pull.pause()

    def complete(self) -> None:
        self._pull = None
        self._exchange.end()
        self._over()

    def closed(self) -> None:
        self.broken("it closed behind an answer without an end", ran=True)

    def broken(self, cause: str, *, ran: bool) -> None:
        self._pull = None
        if not ran:
            self._ways.away(self._index)
        if self._is_begun:
            self._exchange.abort()  # visibly: what came is not whole
            self._over()
        elif self._may_repeat(ran=ran):
            self._next()
        else:
            what = (
                f"the {self.what} service ended while it worked on this: look whether it was done before you ask again"
            )
            self._break(502, what, LOST)

    # -- http.client.Source

    def started(self) -> None:
        inflow = self._request.inflow
        assert inflow is not None, "only bodies that come in pieces are sent so"
        if self._pull is None:  # it has ended meanwhile
            return
        inflow.open(self)

    def hold(self) -> None:
        if self._request.inflow is not None:
            self._request.inflow.pause()
            if not self._is_begun:
                self._wait()

    def go_on(self) -> None:
        if self._request.inflow is not None:
            self._request.inflow.resume()
            if not self._request.inflow.is_whole:
                self._stop_timer()

    # -- http.inflow.Taker

    def data(self, data: bytes) -> None:
        pull, inflow = self._pull, self._request.inflow
        if isinstance(pull, Streaming) and inflow is not None:
            pull.write(data if inflow.length is not None else b"%x\r\n%s\r\n" % (len(data), data))

    def whole(self) -> None:
        pull, inflow = self._pull, self._request.inflow
        if isinstance(pull, Streaming) and inflow is not None:
            if inflow.length is None:
                pull.write(b"0\r\n\r\n")
            pull.end()
            if not self._is_begun:
                self._wait()

    # -- http.exchange.Listener

    def gone(self) -> None:
        if self._pull is not None:
            self._pull.cancel()
        self._pull = None
        self._over()

    def cancelled(self) -> None:
        self.gone()

    def writable(self) -> None:
        if self._pull is not None:
            self._pull.resume()

    # -- the end

    def _break(self, status: int, message: str, code: str) -> None:
        pull, self._pull = self._pull, None
        if pull is not None:
            pull.cancel()
        no = refusal(status, message, code=code)
        if self._is_events and self._is_begun:
            self._exchange.fail(no, b"\n\n" + error_event(no.body))  # whatever was being written ends before it
        elif self._is_begun:
            self._exchange.abort()
        else:
            more = b"" if status == 503 else NOT_AGAIN
            lines = no.headers + more + b"x-request-id: %s\r\n" % self._id.encode()
            self._status = status
            self._exchange.answer(Answer(status, lines, no.body))
        self._over()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _over(self) -> None:
        self._stop_timer()
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(self, self._status)
