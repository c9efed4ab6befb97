"""One attempt at a provider: counts what it costs on the way to whoever reads the answer, and settles it once, whichever way it ends.

Usage is always asked for, because it is the bill; a client that did not ask for it does not get it. What the provider refuses of
our own models goes back into the house, which could have answered it; of a forwarded call the refusal goes through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from cordee.adapters.upstreams.cloud_request import wants_usage
from cordee.adapters.upstreams.events import Broken, Lines, Usage, decode
from cordee.adapters.upstreams.faults import Busy, Fault, error_of, judge
from cordee.adapters.upstreams.passing import DONE
from cordee.domain.call import BYTES_PER_TOKEN, Call
from cordee.http.client import Exchange
from cordee.http.client import Receiver as HttpReceiver
from cordee.ports import Receiver

ERROR_BYTES_MAX = 64 * 1024
ACCOUNT_S = 60.0  # how long a provider is left alone whose account is at fault: somebody has to see to that


class Account(Protocol):
    """Who pays, and who keeps calls away from a provider that has no room."""

    def settle(self, call_id: str, tokens_in: int, tokens_out: int) -> None:
        """An attempt is over. Called once for each."""
        ...

    def refused(self, call_id: str) -> None:
        """The provider will not take this call, now or later."""
        ...

    def rest(self, for_s: float) -> None:
        """Nothing is to be sent there for so long, in seconds."""
        ...


class CloudAttempt:
    """Port Running and http.client.Receiver of one attempt: counts what it costs on the way to `inner`."""

    __slots__ = (
        "_account", "_call", "_error", "_events", "_inner", "_is_billed", "_is_refusal", "_lines", "_mark", "_receiver",
        "_status", "_usage", "_verdict", "_wants_usage", "_whole", "exchange", "silence",
    )  # fmt: skip

    def __init__(
        self, call: Call, receiver: Receiver, inner: HttpReceiver, mark: tuple[bytes, bytes], account: Account
    ) -> None:  # fmt: skip
        self._call = call
        self._receiver = receiver
        self._inner = inner
        self._mark = mark
        self._account = account
        self._lines = Lines()
        self._whole = bytearray()
        self._error = bytearray()
        self._usage: Usage | None = None
        self._wants_usage = call.work is not None or not call.stream or wants_usage(call)
        self._verdict: Busy | Fault | None = None
        self._status = 0
        self._events = 0  # that held text
        self._is_refusal = self._is_billed = False
        self.exchange: Exchange | None = None
        self.silence: asyncio.TimerHandle | None = None

    # -- port Running, and what holds a stream back for a slow client

    def cancel(self) -> None:
        self._end(free=self.exchange is None or self.exchange.connection is None)
        if self.exchange is not None:
            self.exchange.cancel()

    def detach(self) -> None:
        self.cancel()

    def pause(self) -> None:
        if self.exchange is not None:
            self.exchange.pause()

    def resume(self) -> None:
        if self.exchange is not None:
            self.exchange.resume()

    def silent(self, for_s: float) -> None:
        """Nothing came in all that time."""
        self._end()
        if self.exchange is not None:
            self.exchange.cancel()
        self._receiver.broken(f"nothing came from it for {for_s:g} s", ran=True)

    # -- http.client.Receiver

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self._status = status
        verdict = judge(status, headers)
        if isinstance(verdict, Busy | Fault):
            self._verdict = verdict
        elif status >= 400:
            self._is_refusal = True
            self._inner_head(status, headers)
        else:
            self._inner_head(status, headers)

    def body(self, data: bytes) -> None:
        if self.silence is not None:
            self.silence.cancel()
            self.silence = None
        if self._verdict is not None or self._is_refusal:
            if len(self._error) < ERROR_BYTES_MAX:
                self._error += data
        elif not self._call.stream:
            self._whole += data
            self._inner.body(data)
        else:
            self._events_of(data)

    def complete(self) -> None:
        self._finish(self._inner.complete)

    def closed(self) -> None:
        self._finish(self._inner.closed)

    def broken(self, cause: str, *, ran: bool) -> None:
        self._end(free=not ran)
        self._inner.broken(cause, ran=ran)

    def _inner_head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        if self._call.work is None:
            self._inner.head(status, [*headers, self._mark])

    def _events_of(self, data: bytes) -> None:
        try:
            payloads = self._lines.feed(data)
            passed = [payload for payload in payloads if self._counts(payload)]
        except Broken:
            self._inner.body(data)  # it finds the same, and says so
            return
        out = b"".join([b"data: %s\n\n" % payload for payload in passed])
        if self._lines.is_done:
            out += DONE
        if out:
            self._inner.body(out)

    def _counts(self, payload: bytes) -> bool:
        """Whether an event goes on to the client."""
        try:
            event = decode(payload)
        except Broken:
            return True
        self._events += bool(event.choices)
        if event.usage is None:
            return True
        self._usage = event.usage
        return self._wants_usage or bool(event.choices)

    def _finish(self, finish: Callable[[], None]) -> None:
        verdict, call = self._verdict, self._call
        if verdict is None and not self._is_refusal:
            if not call.stream:
                self._count_whole()
            self._end()
            finish()
            return
        self._end(free=True)
        message, is_account = self._said()
        if is_account or (isinstance(verdict, Fault) and self._status in (401, 402, 403)):
            self._account.rest(ACCOUNT_S)
            self._receiver.broken(f"the provider refuses this installation's account: {message}", ran=False)
        elif isinstance(verdict, Busy):
            self._receiver.busy(verdict.retry_after_s)
        elif isinstance(verdict, Fault):
            self._receiver.broken(verdict.cause, ran=verdict.ran)
        elif self._status == 404:
            self._account.rest(ACCOUNT_S)
            self._receiver.broken(f"the provider does not know the model: {message}", ran=False)
        elif call.work is not None:
            self._account.refused(call.id)
            self._receiver.busy(0.0)
        else:
            self._inner.body(bytes(self._error))
            finish()

    def _said(self) -> tuple[str, bool]:
        try:
            error = error_of(bytes(self._error))
        except ValueError:  # what msgspec raises is one
            return f"status {self._status}", False
        if error is None:
            return f"status {self._status}", False
        return error.message[:200], error.is_our_account

    def _count_whole(self) -> None:
        try:
            event = decode(bytes(self._whole))
        except Broken:
            return
        self._usage = event.usage
        self._events = 1

    def _end(self, *, free: bool = False) -> None:
        """The attempt costs what the provider counted; where it did not get to say so, what can be seen of it. `free`: it never
        came to work."""
        if self.silence is not None:
            self.silence.cancel()
            self.silence = None
        if self._is_billed:
            return
        self._is_billed = True
        usage = self._usage
        if free:
            self._account.settle(self._call.id, 0, 0)
        elif usage is not None:
            self._account.settle(self._call.id, usage.prompt_tokens, usage.completion_tokens)
        else:
            self._account.settle(self._call.id, len(self._call.body) // BYTES_PER_TOKEN, self._events)
