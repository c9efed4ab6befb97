"""A connection that has become a WebSocket (RFC 6455): bytes in, whole text messages to the session; messages out.

The protocol's rules (framing, masks, control frames, close codes, compression) are the sans-I/O half of the `websockets`
library; this file decides the limits: how large a message may be, how long a silent or a stalled peer is kept, how it is
closed. What goes out in ordinary text frames is framed here, because that is two bytes of header and the library's way costs
five times as much. No task and no timer belongs to a connection: the server's sweep looks after all of them once a second.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from cordee.http.handshake import WebSocketRules

TEXT_FRAME = 0x81  # the last frame of a text message, not compressed
LENGTH_7_MAX, LENGTH_16_MAX = 125, 65_535
LENGTH_16, LENGTH_64 = 126, 127
COMPRESSED_BYTES_MIN = 512  # a shorter message gains nothing from a dictionary that begins empty
CLOSE_S_MAX = 2.0  # how long a peer has for its half of the closing handshake


class Session(Protocol):
    """What the messages are for."""

    def message(self, data: bytes) -> None:
        """A whole text message; it is valid UTF-8."""
        ...

    def writable(self) -> None:
        """A slow peer has read what was written."""
        ...

    def swept(self, now_s: float, *, closing: bool) -> None:
        """Called about once a second; `closing`: the server is shutting down."""
        ...

    def lost(self) -> None:
        """The connection has ended or is ending: nothing that is sent is seen any more. Called once."""
        ...


def text_frame(message: bytes) -> bytes:
    """One text message as a server sends it: whole, unmasked, not compressed (RFC 7692 lets each message choose)."""
    size = len(message)
    if size <= LENGTH_7_MAX:
        return b"%c%c%s" % (TEXT_FRAME, size, message)
    if size <= LENGTH_16_MAX:
        return b"%c%c%s%s" % (TEXT_FRAME, LENGTH_16, size.to_bytes(2, "big"), message)
    return b"%c%c%s%s" % (TEXT_FRAME, LENGTH_64, size.to_bytes(8, "big"), message)


class WebSocket(asyncio.Protocol):
    """One connection after its handshake; http.exchange.Successor of an HTTP connection."""

    __slots__ = (
        "_due_s", "_ending_s", "_heard", "_message", "_origin", "_pinged", "_protocol", "_rules", "_session",
        "_stalled_s", "is_slow", "transport",
    )  # fmt: skip

    def __init__(self, protocol: ServerProtocol, rules: WebSocketRules) -> None:
        self._protocol = protocol
        self._rules = rules
        self._session: Session | None = None
        self._origin: asyncio.Protocol | None = None
        self._message: bytearray | None = None  # of which the first fragments are there
        self._due_s: float | None = None  # when to look at the peer next
        self._ending_s: float | None = None
        self._stalled_s: float | None = None
        self._heard = self._pinged = False
        self.is_slow = False
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else happens

    def serve(self, session: Session) -> None:
        self._session = session

    @property
    def is_open(self) -> bool:
        return self._session is not None and self._protocol.state is State.OPEN

    # -- http.exchange.Successor

    def inherit(self, origin: asyncio.Protocol, transport: asyncio.Transport) -> None:
        """The connection is ours from now on; its end is still told to `origin`."""
        self._origin = origin
        self.transport = transport

    def swept(self, now_s: float, *, closing: bool) -> None:
        rules = self._rules
        if self._ending_s is not None:
            if now_s - self._ending_s > CLOSE_S_MAX:
                self.transport.abort()
            return
        if self._session is None:  # it has just said farewell
            self._ending_s = now_s
            return
        if self.is_slow:
            self._stalled_s = now_s if self._stalled_s is None else self._stalled_s
            if now_s - self._stalled_s > rules.stall_s_max:
                self.transport.abort()
                return
        elif self._due_s is None:
            self._due_s = now_s + rules.ping_s
        elif now_s >= self._due_s:
            self._look(now_s)
        self._session.swept(now_s, closing=closing)

    def _look(self, now_s: float) -> None:
        if self._pinged and not self._heard:
            self.transport.abort()
        elif self._pinged:
            self._pinged = False
            self._due_s = now_s + self._rules.ping_s
        elif self._protocol.state is State.OPEN:
            self._protocol.send_ping(b"")
            self._pinged, self._heard = True, False
            self._due_s = now_s + self._rules.pong_s_max
            self._flush()

    # -- what goes out

    def send(self, message: bytes) -> None:
        """One text message; it must be UTF-8. Without effect once the connection ends."""
        if not self.is_open:
            return
        if self._protocol.extensions and len(message) >= COMPRESSED_BYTES_MIN:
            self._protocol.send_text(message)
            self._flush()
        else:
            self.transport.write(text_frame(message))

    def close(self, code: CloseCode, reason: str) -> None:
        """Say farewell; `reason` has at most 123 bytes."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code, reason)
            self._flush()
        self._leave()

    # -- asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        self._heard = True
        protocol = self._protocol
        protocol.receive_data(data)
        for frame in protocol.events_received():
            if isinstance(frame, Frame):
                self._received(frame)
        self._flush()
        if self.is_slow:  # who does not read is not read from either: pongs and errors would pile up
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self._protocol.receive_eof()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        origin, self._origin = self._origin, None
        if origin is not None:
            origin.connection_lost(exc)

    def pause_writing(self) -> None:
        self.is_slow = True

    def resume_writing(self) -> None:
        self.is_slow = False
        self._stalled_s = None
        if not self.transport.is_closing():
            self.transport.resume_reading()
        if self._session is not None:
            self._session.writable()

    # -- frames

    def _received(self, frame: Frame) -> None:
        match frame.opcode:
            case Opcode.TEXT if frame.fin:
                self._take(bytes(frame.data))
            case Opcode.TEXT:
                self._message = bytearray(frame.data)
            case Opcode.CONT if self._message is not None:
                self._message += frame.data  # together bounded by the protocol's max_size
                if frame.fin:
                    whole, self._message = bytes(self._message), None
                    self._take(whole)
            case Opcode.BINARY:
                self.close(CloseCode.UNSUPPORTED_DATA, "messages are JSON in text frames")
            case _:
                pass  # control frames have been answered by the protocol

    def _take(self, message: bytes) -> None:
        session = self._session
        if session is None:
            return  # what follows a farewell is not answered
        if not message.isascii():
            try:
                message.decode()
            except UnicodeDecodeError:
                self.close(CloseCode.INVALID_DATA, "the message is not UTF-8")
                return
        session.message(message)

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self.transport.write(data)
            else:  # the protocol's sign for the end of the stream
                if not self.transport.is_closing():
                    self.transport.write_eof()
                self._leave()
        if self._protocol.state is not State.OPEN:
            self._leave()

    def _leave(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.lost()
