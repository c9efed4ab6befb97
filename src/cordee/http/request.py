"""What a parsed request is, and what its head may look like.

llhttp parses strictly; this file decides what is left to decide: which framing is doubtful (RFC 9112 allows more than is
safe behind another proxy), and how large things may be. Whatever is doubtful is refused and the connection closed, so that
two parsers in a row can never disagree on where a request ends.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from cordee.http.inflow import Inflow

URL_BYTES_MAX = 8 * 1024
NO_SWITCH = "this path does not change protocols; send the request without Upgrade"
HEADERS_MAX = 100
SINGLE = frozenset(
    {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"authorization",
        b"content-type",
        b"expect",
        b"x-request-timeout",
    }
)
HOST = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-_:[]"
PLAIN = HOST + b"/?&=%~!$'()*+,;@"  # RFC 3986, less the fragment


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one connection, see config.sections.entrances.Gateway."""

    body_bytes_max: int = 8 * 1024 * 1024
    header_bytes_max: int = 32 * 1024
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    idle_timeout_s: float = 120.0
    write_buffer_bytes_max: int = 4 * 1024  # a small event that waits here costs the event loop five times its size
    connections_max: int = 19_000
    connections_per_address_max: int = 0  # 0: no limit


@dataclass(frozen=True, slots=True)
class Rejection:
    """A request that is not answered but refused; the connection is closed after it."""

    status: int
    message: str


class Request:
    """One request. `headers` has lower-case names; of a repeated one the values are joined, see RFC 9110, 5.3."""

    __slots__ = (
        "body",
        "caller",
        "headers",
        "inflow",
        "keep_alive",
        "method",
        "onward",
        "path",
        "query",
        "remembered",
        "version",
    )

    def __init__(self, method: bytes, version: str, headers: dict[bytes, bytes], keep_alive: bool) -> None:
        self.method = method
        self.version = version
        self.headers = headers
        self.keep_alive = keep_alive
        self.path = b""
        self.query = b""
        self.body = b""
        self.caller: object = None  # whoever `Handler.admit` found
        self.remembered: dict[Any, Any] | None = None  # what a handler has found in this head, while it comes again
        self.inflow: Inflow | None = None  # set by `Handler.admit`: the body comes there, and `body` stays empty
        self.onward: Any = None  # what a handler may do with it when it cannot be answered as it asks


def head_fault(request: Request, target: bytes, switching: Container[bytes] = frozenset()) -> Rejection | None:
    """What is wrong with a complete head, if anything. Sets the request's path and query. `switching`: paths at which a
    connection may change its protocol."""
    headers = request.headers
    if len(headers) > HEADERS_MAX:
        return Rejection(431, f"more than {HEADERS_MAX} headers")
    host = headers.get(b"host")
    if host is None:
        if request.version == "1.1":
            return Rejection(400, "the Host header is missing")
    elif not host or host.translate(None, HOST):
        return Rejection(400, "the Host header is not a host")
    if b"transfer-encoding" in headers:
        if b"content-length" in headers:
            return Rejection(400, "Content-Length and Transfer-Encoding together are ambiguous")
        if headers[b"transfer-encoding"].lower() != b"chunked" or request.version != "1.1":
            return Rejection(501, "the only Transfer-Encoding understood is chunked, over HTTP/1.1")
    if b"content-encoding" in headers and headers[b"content-encoding"].lower() != b"identity":
        return Rejection(415, "compressed request bodies are not accepted; send the JSON as it is")
    if b"expect" in headers and headers[b"expect"].lower() != b"100-continue":
        return Rejection(417, "the only Expect understood is 100-continue")
    fault = _split_target(request, target)
    if fault is None and b"upgrade" in headers and request.path not in switching:
        return Rejection(400, NO_SWITCH)
    return fault


def length_of_head_fault(headers: dict[bytes, bytes], limits: Limits) -> Rejection | None:
    """Whether the headers are too long together."""
    if sum(map(len, headers)) + sum(map(len, headers.values())) > limits.header_bytes_max:
        return Rejection(431, f"the headers are longer than {limits.header_bytes_max} bytes")
    return None


def repeated(headers: dict[bytes, bytes], name: bytes, value: bytes) -> Rejection | None:
    """A header that came already comes again: join the two, or say why not."""
    if name in SINGLE:
        return Rejection(400, f"the header {name.decode()} may come only once")
    if len(headers[name]) > JOINED_BYTES_MAX:
        return Rejection(431, f"the header {name[:64].decode()} comes too often")
    headers[name] += b", " + value
    return None


def length_fault(value: bytes) -> Rejection | None:
    """Content-Length is digits only: no sign, no space, no underscore, no list."""
    if not value.isdigit() or len(value) > LENGTH_DIGITS_MAX:
        return Rejection(400, "Content-Length is not a number")
    return None


def _split_target(request: Request, target: bytes) -> Rejection | None:
    if len(target) > URL_BYTES_MAX:
        return Rejection(414, f"the URL is longer than {URL_BYTES_MAX} bytes")
    if not target.startswith(b"/"):
        scheme, found, rest = target.partition(b"://")
        authority, slash, path = rest.partition(b"/")
        if not found or scheme.lower() not in (b"http", b"https") or authority != request.headers.get(b"host"):
            return Rejection(400, "the request target is neither a path nor a URL of this host")
        target = slash + path if slash else b"/"
    if target.translate(None, PLAIN):
        return Rejection(400, "the URL holds characters that must be percent-encoded")
    request.path, _, request.query = target.partition(b"?")
    return None


JOINED_BYTES_MAX = 8 * 1024  # of one header that comes several times
LENGTH_DIGITS_MAX = 15  # a petabyte; the body limit comes long before
