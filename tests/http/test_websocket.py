"""A connection that has become a WebSocket: what goes in and out, frame by frame, and how it ends."""

from __future__ import annotations

import asyncio
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import CloseCode, Frame, Opcode

from cordee.http.handshake import WebSocketRules, handshake
from cordee.http.request import Request
from cordee.http.websocket import WebSocket, text_frame

RULES = WebSocketRules(message_bytes_max=1000, ping_s=10.0, pong_s_max=5.0, stall_s_max=30.0)
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HEADERS = {
    b"host": b"h", b"connection": b"Upgrade", b"upgrade": b"websocket", b"sec-websocket-key": KEY, b"sec-websocket-version": b"13",
}  # fmt: skip
PART, WHOLE = False, True


class Transport(asyncio.Transport):
    """Holds what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.has_ended = self.is_aborted = self.is_held = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.written += data

    def write_eof(self) -> None:
        self.has_ended = True

    def abort(self) -> None:
        self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_aborted

    def pause_reading(self) -> None:
        self.is_held = True

    def resume_reading(self) -> None:
        self.is_held = False


class Session:
    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.closing: list[bool] = []
        self.lost_times = self.writable_times = 0

    def message(self, data: bytes) -> None:
        self.messages.append(data)

    def writable(self) -> None:
        self.writable_times += 1

    def swept(self, now_s: float, *, closing: bool) -> None:
        self.closing.append(closing)

    def lost(self) -> None:
        self.lost_times += 1


class Origin(asyncio.Protocol):
    def __init__(self) -> None:
        self.is_lost = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True


class Peer:
    """A socket after its handshake, and the other side of it."""

    def __init__(self, rules: WebSocketRules = RULES, headers: dict[bytes, bytes] | None = None) -> None:
        request = Request(b"GET", "1.1", {**HEADERS, **(headers or {})}, keep_alive=False)
        request.path = b"/x"
        protocol, self.response = handshake(request, rules, "cordee.v1")
        self.socket, self.session = WebSocket(protocol, rules), Session()
        self.transport, self.origin = Transport(), Origin()
        self.socket.serve(self.session)
        self.socket.inherit(self.origin, self.transport)

    def say(self, opcode: Opcode, data: bytes, *, fin: bool = WHOLE) -> None:
        self.socket.data_received(Frame(opcode, data, fin).serialize(mask=True))

    def heard(self) -> list[Frame]:
        """The frames written so far."""
        data, frames = bytes(self.transport.written), []
        while data:
            length, at = data[1] & 0x7F, 2
            if length >= 126:
                at = 4 if length == 126 else 10
                length = int.from_bytes(data[2:at], "big")
            frames.append(Frame(Opcode(data[0] & 15), data[at : at + length], bool(data[0] & 128), bool(data[0] & 64)))
            data = data[at + length :]
        return frames

    def closed_with(self) -> int:
        frame = self.heard()[-1]
        assert frame.opcode is Opcode.CLOSE
        return int.from_bytes(frame.data[:2], "big")


def test_a_handshake_is_answered_as_rfc_6455_says_and_names_the_one_subprotocol_we_speak():
    peer = Peer(headers={b"sec-websocket-protocol": b"bearer.secret, cordee.v1"})
    assert peer.response.status_code == 101
    assert peer.response.headers["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert peer.response.headers["Sec-WebSocket-Protocol"] == "cordee.v1"
    assert "Sec-WebSocket-Protocol" not in Peer().response.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({b"upgrade": b"h2c"}, 426),
        ({b"connection": b"close"}, 426),
        ({b"sec-websocket-key": b"short"}, 400),
        ({b"sec-websocket-version": b"8"}, 400),
    ],
)
def test_what_is_no_handshake_is_refused(headers, status):
    assert Peer(headers=headers).response.status_code == status


def test_a_message_arrives_whole_however_it_was_cut():
    peer = Peer()
    peer.say(Opcode.TEXT, b"one")
    peer.say(Opcode.TEXT, b"t", fin=PART)
    peer.say(Opcode.PING, b"between")
    peer.say(Opcode.CONT, b"w", fin=PART)
    peer.say(Opcode.CONT, b"o")
    for byte in Frame(Opcode.TEXT, "drei é".encode()).serialize(mask=True):
        peer.socket.data_received(bytes([byte]))
    assert peer.session.messages == [b"one", b"two", "drei é".encode()]
    assert [(frame.opcode, frame.data) for frame in peer.heard()] == [(Opcode.PONG, b"between")]


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([(Opcode.BINARY, b"x", WHOLE)], CloseCode.UNSUPPORTED_DATA),
        ([(Opcode.TEXT, b"\xff", WHOLE)], CloseCode.INVALID_DATA),
        ([(Opcode.TEXT, b"x" * 1001, WHOLE)], CloseCode.MESSAGE_TOO_BIG),
        ([(Opcode.TEXT, b"x" * 600, PART), (Opcode.CONT, b"x" * 600, WHOLE)], CloseCode.MESSAGE_TOO_BIG),
        ([(Opcode.CONT, b"x", WHOLE)], CloseCode.PROTOCOL_ERROR),
        ([(Opcode.TEXT, b"x", PART), (Opcode.TEXT, b"x", WHOLE)], CloseCode.PROTOCOL_ERROR),
    ],
)
def test_a_message_that_may_not_be_ends_the_connection_and_says_why(frames, code):
    peer = Peer()
    for opcode, data, fin in frames:
        peer.say(opcode, data, fin=fin)
    assert peer.closed_with() == code
    assert peer.session.messages == []
    assert peer.session.lost_times == 1
    peer.say(Opcode.TEXT, b"more")
    assert peer.session.messages == []


def test_a_frame_that_is_not_masked_is_refused():
    peer = Peer()
    peer.socket.data_received(Frame(Opcode.TEXT, b"x").serialize(mask=False))
    assert peer.closed_with() == CloseCode.PROTOCOL_ERROR


def test_the_peers_farewell_is_answered_and_the_session_told_once():
    peer = Peer()
    peer.say(Opcode.CLOSE, (1000).to_bytes(2, "big"))
    assert peer.closed_with() == CloseCode.NORMAL_CLOSURE
    assert peer.transport.has_ended
    peer.socket.connection_lost(None)
    assert peer.session.lost_times == 1
    assert peer.origin.is_lost


def test_after_our_farewell_nothing_is_sent_and_a_peer_that_says_nothing_is_left():
    peer = Peer()
    peer.socket.close(CloseCode.GOING_AWAY, "later")
    peer.socket.send(b"more")
    assert peer.closed_with() == CloseCode.GOING_AWAY
    peer.socket.swept(100.0, closing=False)
    assert not peer.transport.is_aborted
    peer.socket.swept(103.0, closing=False)
    assert peer.transport.is_aborted


def test_a_silent_peer_is_pinged_and_given_up_when_it_does_not_answer():
    peer = Peer()
    peer.socket.swept(0.0, closing=False)
    peer.socket.swept(9.9, closing=False)
    assert peer.heard() == []
    peer.socket.swept(10.0, closing=False)
    assert [frame.opcode for frame in peer.heard()] == [Opcode.PING]
    peer.socket.swept(14.9, closing=False)
    assert not peer.transport.is_aborted
    peer.socket.swept(15.0, closing=False)
    assert peer.transport.is_aborted


def test_a_peer_that_answers_is_kept():
    peer = Peer()
    for second in range(200):
        peer.socket.swept(float(second), closing=second == 199)
        if peer.heard() and peer.heard()[-1].opcode is Opcode.PING:
            peer.say(Opcode.PONG, b"")
    assert not peer.transport.is_aborted
    assert peer.session.closing[-1] is True


def test_who_does_not_read_is_not_read_from_and_given_up_in_the_end():
    peer = Peer()
    peer.socket.pause_writing()
    assert peer.socket.is_slow
    peer.say(Opcode.PING, b"")
    assert peer.transport.is_held
    peer.socket.swept(0.0, closing=False)
    peer.socket.swept(30.0, closing=False)
    assert not peer.transport.is_aborted
    peer.socket.resume_writing()
    assert (peer.transport.is_held, peer.session.writable_times) == (False, 1)
    peer.socket.pause_writing()
    peer.socket.swept(100.0, closing=False)
    peer.socket.swept(130.1, closing=False)
    assert peer.transport.is_aborted


def test_long_messages_are_compressed_for_those_who_asked_and_short_ones_never():
    peer = Peer(headers={b"sec-websocket-extensions": b"permessage-deflate"})
    assert "permessage-deflate" in peer.response.headers["Sec-WebSocket-Extensions"]
    peer.socket.send(b"short")
    peer.socket.send(b"long " * 200)
    short, long = peer.heard()
    assert (short.rsv1, short.data) == (False, b"short")
    assert long.rsv1
    assert len(long.data) < 100
    assert zlib.decompressobj(-15).decompress(bytes(long.data) + b"\0\0\xff\xff") == b"long " * 200


def test_a_small_message_that_unpacks_to_a_large_one_is_refused():
    peer = Peer(headers={b"sec-websocket-extensions": b"permessage-deflate"})
    packer = zlib.compressobj(wbits=-15)
    packed = (packer.compress(b"0" * 500_000) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
    assert len(packed) < RULES.message_bytes_max
    frame = bytearray(Frame(Opcode.TEXT, packed).serialize(mask=True))
    frame[0] |= 0x40  # RSV1: it is compressed
    peer.socket.data_received(bytes(frame))
    assert peer.closed_with() == CloseCode.MESSAGE_TOO_BIG


def test_nothing_is_compressed_where_the_configuration_says_so():
    rules = WebSocketRules(compression=False)
    assert (
        "Sec-WebSocket-Extensions"
        not in Peer(rules, {b"sec-websocket-extensions": b"permessage-deflate"}).response.headers
    )


@given(st.integers(0, 70_000))
def test_a_text_frame_is_what_the_library_would_send(size):
    assert text_frame(b"x" * size) == Frame(Opcode.TEXT, b"x" * size).serialize(mask=False)
