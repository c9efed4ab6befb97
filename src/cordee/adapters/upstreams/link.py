"""Our own worker as a replica: one connection, many attempts, and the judgement whether the worker is alive.

Three things end an attempt from this side: the connection breaks (a crash, seen at once), the worker is silent for longer than
its jitter explains (a freeze, policy.suspicion), or a frame that no worker of ours sends. In each case every open attempt is
`broken` at once, so that the calls go on elsewhere; what a frozen worker still sends later meets handles that are no longer
known, and is counted and dropped.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import struct
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import msgspec

from cordee.adapters.upstreams.link_submit import submit_of
from cordee.domain.call import Call
from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.domain.replica import EngineFigures, Gpu, Load
from cordee.link import frames
from cordee.policy.suspicion import Suspicion
from cordee.ports import Receiver

# Silence is judged when it may be too long, and at least so often: what is too long follows the gaps.
CHECK_S_MAX = 0.05
CONFIRM_S = 0.002  # it is judged once more before it counts: what came in while this process slept is read until then
LATE_S = 0.02  # a check that comes later than this says more about this process than about the worker
CONNECT_S_MAX = 2.0
RECONNECT_S, RECONNECT_S_MAX = 0.05, 1.0
IDLE_BEATS_MISSED_MAX = 5  # idle beats; then the connection is taken for dead and made anew
HANDLES = 1 << 32
FINISHES = {int(finish): finish for finish in Finish}


@dataclass(frozen=True, slots=True)
class LinkRules:
    """See config.sections.processes.Link."""

    beat_s: float = 0.025
    idle_beat_s: float = 1.0
    suspect_s_min: float = 0.075
    phi: float = 8.0


class LinkListener(Protocol):
    """Who hears how the worker is."""

    def up(self, hello: frames.WorkerHello) -> bool:
        """It is there and says who it is. False: it cannot be used."""
        ...

    def load(self, load: Load) -> None: ...

    def gpus(self, found: tuple[Gpu, ...]) -> None:
        """How its accelerators are."""
        ...

    def figures(self, found: EngineFigures) -> None:
        """What its engine has counted."""
        ...

    def suspected(self, silence_s: float) -> None:
        """It is taken for frozen: no new attempts until `recovered`."""
        ...

    def recovered(self) -> None: ...

    def draining(self) -> None: ...

    def down(self, cause: str) -> None:
        """The connection is gone; `up` follows when it is back."""
        ...

    def late(self, rows: int) -> None:
        """Tokens came for attempts that had been given up."""
        ...


class _Attempt:
    """An attempt under way; of its call's `choices` the worker has not finished `open_choices`."""

    __slots__ = ("_handle", "_link", "choices", "open_choices", "receiver")

    def __init__(self, link: Link, handle: int, choices: int, open_choices: int, receiver: Receiver) -> None:
        self._link: Link | None = link
        self._handle = handle
        self.choices = choices
        self.open_choices = open_choices
        self.receiver = receiver

    def cancel(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.give_up(self._handle)

    def detach(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.let_go(self._handle)

    def over(self) -> None:
        self._link = None


class Link:
    """Port Upstream for one worker. `address` is `unix:/PATH` or `tls://HOST:PORT`."""

    def __init__(
        self, address: str, gateway: str, rules: LinkRules, listener: LinkListener, tls: ssl.SSLContext | None = None,
        peer_is_worker: Callable[[ssl.SSLObject], bool] | None = None,
    ) -> None:  # fmt: skip
        self._address = address
        self._gateway = gateway
        self._rules = rules
        self._listener = listener
        self._tls = tls
        self._peer_is_worker = peer_is_worker
        self._loop = asyncio.get_running_loop()
        self._protocol: _Protocol | None = None
        self._worker = ""
        self._vocabulary = 0
        self._attempts: dict[int, _Attempt] = {}
        self._next_handle = 1
        self._is_suspect = False
        self._is_draining = False
        self._checking = False
        self._check_due_s = 0.0
        self._is_doubted = False
        self._heard_s = 0.0
        self._suspicion = self._fresh_suspicion()
        self._dialling: asyncio.Task[None] | None = None
        self._closed = False

    # -- port Upstream

    def start(
        self, call: Call, attempt: int, outputs: Sequence[array[int]], done: frozenset[int], remaining_s: float,
        receiver: Receiver,
        sent: Sequence[bytes] = (),
    ) -> _Attempt:  # fmt: skip
        work = call.work
        assert work is not None, "only tokenised work goes to a worker"
        choices = [choice for choice in range(work.n) if choice not in done]
        handle = self._next_handle
        running = _Attempt(self, handle, work.n, len(choices), receiver)
        protocol = self._protocol
        if protocol is None or self._is_suspect:
            running.over()
            receiver.broken("the worker is not connected", ran=False)
            return running
        self._next_handle = handle + 1 if handle + 1 < HANDLES else 1
        if not self._attempts:
            self._suspicion.expect(self._loop.time())
        self._attempts[handle] = running
        if call.attach and call.attach == self._worker and attempt == 1 and not done and not any(outputs):
            asked = frames.attach(handle, frames.Attach(call.id, call.tenant, work.n))
        else:
            asked = frames.submit(handle, submit_of(call, work, attempt, choices, outputs, remaining_s))
        protocol.transport.write(asked)
        self._watch()
        return running

    # -- life

    def open(self) -> None:
        """Begin to connect, and keep connected until `close`."""
        self._dialling = self._loop.create_task(self._dial())

    def close(self) -> None:
        self._closed = True
        if self._dialling is not None:
            self._dialling.cancel()
        if self._protocol is not None:
            self._protocol.transport.close()

    def give_up(self, handle: int) -> None:
        """Nobody waits for this attempt any more."""
        if self._attempts.pop(handle, None) is not None and self._protocol is not None:
            self._protocol.transport.write(frames.cancel(handle))

    def let_go(self, handle: int) -> None:
        """Nobody listens to this attempt any more, but its answer may go on."""
        if self._attempts.pop(handle, None) is not None and self._protocol is not None:
            self._protocol.transport.write(frames.detach(handle))

    def abandon(self, cause: str) -> None:
        """The worker is there but cannot be relied on: every attempt is broken, so that the calls go on elsewhere."""
        if self._protocol is not None:
            for handle in self._attempts:
                self._protocol.transport.write(frames.cancel(handle))
            self._break_all(cause)

    async def _dial(self) -> None:
        pause_s = RECONNECT_S
        while not self._closed:
            dialled_s = self._loop.time()
            try:
                async with asyncio.timeout(CONNECT_S_MAX):
                    lost = await self._connect()
            except (OSError, TimeoutError):
                await asyncio.sleep(pause_s)
                pause_s = min(RECONNECT_S_MAX, pause_s * 2)
                continue
            await lost
            if self._loop.time() - dialled_s >= RECONNECT_S_MAX:
                pause_s = RECONNECT_S
            else:  # a connection that hardly lasts would otherwise be made anew a hundred times a second
                await asyncio.sleep(pause_s)
                pause_s = min(RECONNECT_S_MAX, pause_s * 2)

    async def _connect(self) -> asyncio.Future[None]:
        lost: asyncio.Future[None] = self._loop.create_future()
        kind, _, rest = self._address.partition(":")
        if kind == "unix":
            await self._loop.create_unix_connection(lambda: _Protocol(self, lost), rest)
        else:
            host, _, port = rest.removeprefix("//").rpartition(":")
            await self._loop.create_connection(
                lambda: _Protocol(self, lost),
                host.strip("[]"),
                int(port),
                ssl=self._tls,
                server_hostname=host.strip("[]"),
            )
        return lost

    # -- what the connection says

    def connected(self, protocol: _Protocol) -> None:
        if self._peer_is_worker is not None:
            peer = protocol.transport.get_extra_info("ssl_object")
            if peer is None or not self._peer_is_worker(peer):
                protocol.transport.abort()
                return
        protocol.transport.write(
            frames.hello(frames.GatewayHello(protocol=frames.PROTOCOL, gateway=self._gateway, pid=os.getpid()))
        )
        self._loop.call_later(CONNECT_S_MAX, self._check_hello, protocol)

    def frames_came(self, protocol: _Protocol, data: bytes) -> None:
        now = self._loop.time()
        self._heard_s = now
        if self._attempts:
            self._suspicion.heard(now)
        if self._is_suspect:
            self._is_suspect = False
            self._suspicion = self._fresh_suspicion()
            self._listener.recovered()
        try:
            for kind, payload in protocol.splitter.feed(data):
                self._frame(protocol, kind, payload)
        except (frames.FrameError, msgspec.MsgspecError, struct.error, ValueError) as error:
            protocol.transport.abort()
            self._lost(protocol, f"it sent what no worker sends: {error}")

    def lost(self, protocol: _Protocol, error: Exception | None) -> None:
        cause = "the connection was closed" if error is None else f"the connection was lost ({error})"
        self._lost(protocol, cause, crashed=not self._is_draining)

    def _lost(self, protocol: _Protocol, cause: str, *, crashed: bool = False) -> None:
        if self._protocol is not protocol:
            return
        self._protocol = None
        self._is_suspect = False
        if not self._closed:  # else it is we who went, and nothing is wrong with the worker
            self._listener.down(cause)
        self._break_all(cause, crashed=crashed)

    def _frame(self, protocol: _Protocol, kind: int, payload: memoryview) -> None:
        if kind == frames.STEP:
            self._step(protocol, payload)
        elif kind == frames.BEAT:
            self._listener.load(frames.read_load(payload))
        elif kind == frames.ACK:
            attempt = self._attempts.get(frames.read_handle(payload))
            if attempt is not None:
                attempt.receiver.accepted()
        elif kind == frames.LOGPROBS:
            for handle, choice, index, chosen, others in frames.read_logprobs(payload):
                protocol.logprobs[handle, choice, index] = TokenLogprobs(chosen, tuple(others))
        elif kind == frames.CACHED:
            for handle, tokens in frames.read_cached(payload):
                if handle in self._attempts:
                    self._attempts[handle].receiver.cached(tokens)
        elif kind == frames.RESULT:
            handle, choice, data = frames.read_result(payload)
            if handle in self._attempts:
                self._attempts[handle].receiver.result(choice, data)
        elif kind == frames.REFUSE:
            self._refused(frames.read_handle(payload), frames.read_refuse(payload))
        elif kind == frames.HELLO:
            self._hello(protocol, frames.read_worker_hello(payload))
        elif kind == frames.GPUS:
            self._listener.gpus(frames.read_gpus(payload))
        elif kind == frames.FIGURES:
            self._listener.figures(frames.read_figures(payload))
        elif kind == frames.DRAIN:
            self._is_draining = True
            self._listener.draining()
        else:
            raise frames.FrameError(f"a worker does not send frames of kind {kind}")

    def _hello(self, protocol: _Protocol, hello: frames.WorkerHello) -> None:
        if hello.protocol != frames.PROTOCOL:
            raise frames.FrameError(f"it speaks version {hello.protocol} of the link, this gateway {frames.PROTOCOL}")
        self._protocol = protocol
        self._worker = hello.worker
        self._vocabulary = hello.vocabulary
        self._is_draining = False
        self._suspicion = self._fresh_suspicion()
        if not self._listener.up(hello):
            self._protocol = None
            protocol.transport.close()
            return
        self._loop.call_later(self._rules.idle_beat_s, self._check_idle, protocol)

    def _step(self, protocol: _Protocol, payload: memoryview) -> None:
        attempts, logprobs, vocabulary = self._attempts, protocol.logprobs, self._vocabulary
        late = 0
        for handle, choice, finish, index, token in frames.read_rows(payload):
            attempt = attempts.get(handle)
            if attempt is None:
                late += 1
            elif choice >= attempt.choices:
                raise frames.FrameError(f"choice {choice} of an answer that has {attempt.choices}")
            elif finish:
                why = FINISHES.get(finish)
                if why is None:
                    raise frames.FrameError(f"finish {finish}, which there is not")
                attempt.open_choices -= 1
                if attempt.open_choices == 0:
                    del attempts[handle]
                    attempt.over()
                attempt.receiver.finish(choice, index, why)
            elif token >= vocabulary:
                raise frames.FrameError(f"token {token} of a vocabulary of {vocabulary}")
            else:
                attempt.receiver.token(
                    choice, index, token, logprobs.get((handle, choice, index)) if logprobs else None
                )
        logprobs.clear()
        if late:
            self._listener.late(late)
        self._listener.load(frames.read_load(payload))

    def _refused(self, handle: int, refuse: frames.Refuse) -> None:
        attempt = self._attempts.pop(handle, None)
        if attempt is None:
            return
        attempt.over()
        if refuse.busy:
            attempt.receiver.busy(refuse.retry_after_s)
        else:
            attempt.receiver.broken(refuse.message, ran=False, fault=not refuse.gone)

    # -- is it alive?

    def _fresh_suspicion(self) -> Suspicion:
        rules = self._rules
        return Suspicion(self._loop.time(), rules.beat_s, rules.suspect_s_min, rules.phi)

    def _watch(self) -> None:
        if not self._checking:
            self._checking = True
            now = self._loop.time()
            wait_s = min(max(self._suspicion.due_s - now, CONFIRM_S), CHECK_S_MAX)
            self._check_due_s = now + wait_s
            self._loop.call_later(wait_s, self._check)

    def _check(self) -> None:
        now = self._loop.time()
        lateness_s = now - self._check_due_s
        self._checking = False
        was_doubted, self._is_doubted = self._is_doubted, False
        if not self._attempts or self._protocol is None:
            return
        if lateness_s > LATE_S:  # what came in while this process slept has not been read yet
            self._suspicion.excuse(lateness_s)
        elif self._suspicion.ask(now) and not was_doubted:
            self._is_doubted = True
        elif self._suspicion.ask(now):
            self._is_suspect = True
            silence_s = self._suspicion.silence_s(now)
            self._listener.suspected(silence_s)
            self.abandon(f"the worker was silent for {silence_s * 1000:.0f} ms")
            return
        self._watch()

    def _check_hello(self, protocol: _Protocol) -> None:
        """A connection that stands, but on which nobody has said who he is, would be waited for for ever."""
        if self._protocol is not protocol:
            protocol.transport.abort()

    def _check_idle(self, protocol: _Protocol) -> None:
        if self._protocol is not protocol:
            return
        if self._loop.time() - self._heard_s > IDLE_BEATS_MISSED_MAX * self._rules.idle_beat_s:
            protocol.transport.abort()
            self._lost(protocol, "it sent no beat")
            return
        self._loop.call_later(self._rules.idle_beat_s, self._check_idle, protocol)

    def _break_all(self, cause: str, *, crashed: bool = False) -> None:
        attempts, self._attempts = self._attempts, {}
        for attempt in attempts.values():
            attempt.over()
        crash = len(attempts) if crashed else 0
        for attempt in attempts.values():
            attempt.receiver.broken(cause, ran=True, crash=crash)


class _Protocol(asyncio.Protocol):
    """The bytes of one connection."""

    __slots__ = ("_link", "_lost", "logprobs", "splitter", "transport")

    def __init__(self, link: Link, lost: asyncio.Future[None]) -> None:
        self._link = link
        self._lost = lost
        self.splitter = frames.Splitter()
        self.logprobs: dict[tuple[int, int, int], TokenLogprobs] = {}
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else happens

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._link.connected(self)

    def data_received(self, data: bytes) -> None:
        self._link.frames_came(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.lost(self, exc)
        if not self._lost.done():
            self._lost.set_result(None)
