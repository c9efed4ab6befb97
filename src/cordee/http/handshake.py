"""How a connection becomes a WebSocket: what is agreed on in its handshake, and under which limits it lives then."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request as Handshake
from websockets.http11 import Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from cordee.http.request import Request

WINDOW_BITS, MEMORY_LEVEL = 12, 5  # of zlib: 32 KiB, and only while a message is compressed
SILENT = logging.getLogger("cordee.http.websocket")
SILENT.setLevel(logging.WARNING)  # the library writes whole frames at a lower level, and those hold people's texts


@dataclass(frozen=True, slots=True)
class WebSocketRules:
    """Bounds on one connection, see config.sections.entrances.Realtime. A peer is asked for a sign of life every `ping_s`, and given
    up when it has sent nothing for `pong_s_max` after it, or has not read for `stall_s_max`."""

    message_bytes_max: int = 1 << 20
    ping_s: float = 20.0
    pong_s_max: float = 20.0
    stall_s_max: float = 30.0
    compression: bool = True


def handshake(request: Request, rules: WebSocketRules, subprotocol: str) -> tuple[ServerProtocol, Response]:
    """The protocol that a connection has after its handshake, and the answer to it: 101, or why not. `subprotocol` is chosen
    where it is offered."""

    def choose(protocol: ServerProtocol, offered: object) -> Subprotocol | None:
        assert isinstance(offered, list | tuple)
        return Subprotocol(subprotocol) if subprotocol in offered else None

    # No context is taken over from one message to the next: it would cost every idle connection tens of kilobytes.
    deflate = ServerPerMessageDeflateFactory(
        server_no_context_takeover=True, client_no_context_takeover=True, server_max_window_bits=WINDOW_BITS,
        compress_settings={"memLevel": MEMORY_LEVEL},
    )  # fmt: skip
    asked = ServerProtocol(
        extensions=[deflate] if rules.compression else None, subprotocols=[Subprotocol(subprotocol)],
        select_subprotocol=choose, logger=SILENT,
    )  # fmt: skip
    headers = Headers((name.decode("ascii"), value.decode("latin-1")) for name, value in request.headers.items())
    response = asked.accept(Handshake(request.path.decode("ascii", "replace"), headers))
    # The request was read elsewhere: a protocol that begins after the handshake does not wait for one.
    protocol = ServerProtocol(state=State.OPEN, max_size=rules.message_bytes_max, logger=SILENT)
    protocol.extensions = asked.extensions
    return protocol, response
