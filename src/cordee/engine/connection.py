"""One gateway's connection: frames in, frames out, and the beat that says that this worker is alive."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from dataclasses import dataclass
from typing import Protocol, cast

import msgspec

from cordee.domain.replica import Load
from cordee.link import frames
from cordee.ports import Clock, Timer

log = logging.getLogger(__name__)

UNSENT_BYTES_MAX = 16 * 1024 * 1024  # a gateway that does not read for seconds is frozen: its calls go on elsewhere
EARLY_S = 0.001  # event loops count in milliseconds: rather a beat too early than a timer for less
CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


@dataclass(slots=True)
class Open:
    """An attempt that is not complete. `cost`: tokens of cache that one of its choices may come to occupy. `kept`: it listens to a
    kept answer, which counts for itself. `call`: the id of its call."""

    left: int
    cost: int
    kept: bool = False
    call: str = ""


class Host(Protocol):
    """Who the connections of a process belong to."""

    def joined(self, connection: Connection, transport: asyncio.BaseTransport) -> str | None:
        """A peer is there. Returns why it is not let in, else greets it."""
        ...

    def left(self, connection: Connection) -> None:
        """The peer is gone. May be said twice."""
        ...

    def submit(self, connection: Connection, handle: int, submit: frames.Submit) -> None: ...

    def cancel(self, connection: Connection, handle: int) -> None: ...

    def attach(self, connection: Connection, handle: int, attach: frames.Attach) -> None: ...

    def detach(self, connection: Connection, handle: int) -> None: ...

    def load(self, seen: int) -> Load: ...


class Connection(asyncio.Protocol):
    """`open`: attempts that are not complete, by handle. `cancelled`: those of which late rows may still come.

    `seen`: how many attempts this gateway has submitted.
    """

    __slots__ = (
        "_beat_s",
        "_clock",
        "_greeted",
        "_host",
        "_idle_beat_s",
        "_sent_s",
        "_splitter",
        "_timer",
        "_transport",
        "cancelled",
        "number",
        "open",
        "seen",
    )  # fmt: skip

    def __init__(self, host: Host, number: int, clock: Clock, beat_s: float, idle_beat_s: float) -> None:
        self._host = host
        self._clock = clock
        self._beat_s = beat_s
        self._idle_beat_s = idle_beat_s
        self._splitter = frames.Splitter()
        self._transport: asyncio.Transport | None = None
        self._timer: Timer | None = None
        self._sent_s = clock.now()
        self._greeted = False
        self.number = number
        self.open: dict[int, Open] = {}
        self.cancelled: set[int] = set()
        self.seen = 0

    def opened(self, handle: int, attempt: Open) -> None:
        """An attempt is open; with the first the heart beats fast."""
        if not self.open:
            self._arm(self._beat_s)
        self.open[handle] = attempt

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
            self._sent_s = self._clock.now()

    @property
    def unsent_bytes(self) -> int:
        """What the gateway has not read yet and the kernel has no room for."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._transport.set_write_buffer_limits(high=UNSENT_BYTES_MAX)
        refused = self._host.joined(self, transport)
        if refused is not None:
            log.warning("a connection is refused: %s", refused)
            self._transport.abort()
            return
        self._arm(self._idle_beat_s)

    def data_received(self, data: bytes) -> None:
        try:
            for kind, payload in self._splitter.feed(data):
                self._frame(kind, payload)
        except (frames.FrameError, msgspec.MsgspecError, struct.error) as error:
            log.warning("connection %d is closed: it sent what no gateway sends: %s", self.number, error)
            self._abort()

    def pause_writing(self) -> None:
        log.warning("connection %d is closed: it has left %d bytes unread", self.number, UNSENT_BYTES_MAX)
        self._abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._host.left(self)

    # -- inside

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
            self._host.left(self)

    def _frame(self, kind: int, payload: memoryview) -> None:
        if self._transport is None:
            return  # what came behind the frame for which the connection was closed
        if not self._greeted:
            if kind != frames.HELLO:
                raise frames.FrameError(f"the first frame is of kind {kind}, not {frames.HELLO}")
            self._greet(frames.read_gateway_hello(payload))
        elif kind == frames.SUBMIT:
            self._host.submit(self, self._new_handle(payload), frames.read_submit(payload))
        elif kind == frames.CANCEL:
            self._host.cancel(self, frames.read_handle(payload))
        elif kind == frames.ATTACH:
            self._host.attach(self, self._new_handle(payload), frames.read_attach(payload))
        elif kind == frames.DETACH:
            self._host.detach(self, frames.read_handle(payload))
        else:
            raise frames.FrameError(f"a gateway does not send frames of kind {kind}")

    def _new_handle(self, payload: memoryview) -> int:
        """The handle of an attempt that begins; it counts as seen whatever becomes of it."""
        handle = frames.read_handle(payload)
        if handle in self.open or handle in self.cancelled:
            raise frames.FrameError(f"handle {handle} is in use")
        self.seen += 1
        return handle

    def _greet(self, hello: frames.GatewayHello) -> None:
        if hello.protocol != frames.PROTOCOL:
            raise frames.FrameError(f"it speaks version {hello.protocol} of the link, this worker {frames.PROTOCOL}")
        self._greeted = True
        log.info("gateway %s (pid %d) is connected", hello.gateway[:128], hello.pid)

    def _arm(self, delay_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._clock.call_later(delay_s, self._beat)

    def _beat(self) -> None:
        """Beat if nothing was sent for a period; come back when the period since the last sending is over."""
        if self._transport is None:
            return
        period_s = self._beat_s if self.open else self._idle_beat_s
        rest_s = self._sent_s + period_s - self._clock.now()
        if rest_s <= EARLY_S:
            self.send(frames.beat(self._host.load(self.seen)))
            rest_s = period_s
        self._arm(rest_s)


def same_user(transport: asyncio.BaseTransport, uid: int) -> str | None:
    """Why the peer of a unix socket is not let in: it must run as `uid`, as the kernel says. None: it may."""
    peer: socket.socket = transport.get_extra_info("socket")
    found = CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    return None if found[1] == uid else f"its user id is {found[1]}, must be {uid}"
