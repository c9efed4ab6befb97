"""What a parsed request is, and what its head may look like.

llhttp parses strictly; this file decides what is left to decide: which framing is doubtful (RFC 9112 allows more than is
safe behind another proxy), and how large things may be. Whatever is doubtful is refused and the connection closed, so that
two parsers in a row can never disagree on where a request ends.
"""

from __future__ import annotations

from dataclasses import dataclass

URL_BYTES_MAX = 8 * 1024
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
TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
HOST = frozenset(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-_:[]")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one connection, see config.tree.Gateway."""

    body_bytes_max: int = 8 * 1024 * 1024
    header_bytes_max: int = 32 * 1024
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    idle_timeout_s: float = 120.0
    write_buffer_bytes_max: int = 64 * 1024
    connections_max: int = 19_000


@dataclass(frozen=True, slots=True)
class Rejection:
    """A request that is not answered but refused; the connection is closed after it."""

    status: int
    message: str


class Request:
    """One request. `headers` has lower-case names; of a repeated one the values are joined, see RFC 9110, 5.3."""

    __slots__ = ("body", "caller", "headers", "keep_alive", "method", "path", "query", "target", "version")

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.path = b""
        self.query = b""
        self.version = "1.1"
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.keep_alive = True
        self.caller: object = None  # whoever `Handler.admit` found


def head_fault(request: Request, *, chunked: bool) -> Rejection | None:
    """What is wrong with a complete head, if anything."""
    headers = request.headers
    host = headers.get(b"host")
    if host is None:
        if request.version == "1.1":
            return Rejection(400, "the Host header is missing")
    elif not host or not HOST.issuperset(host):
        return Rejection(400, "the Host header is not a host")
    encoding = headers.get(b"transfer-encoding")
    if encoding is not None:
        if b"content-length" in headers:
            return Rejection(400, "Content-Length and Transfer-Encoding together are ambiguous")
        if encoding.lower() != b"chunked" or not chunked or request.version != "1.1":
            return Rejection(501, "the only Transfer-Encoding understood is chunked, over HTTP/1.1")
    if b"content-encoding" in headers and headers[b"content-encoding"].lower() != b"identity":
        return Rejection(415, "compressed request bodies are not accepted; send the JSON as it is")
    expect = headers.get(b"expect")
    if expect is not None and expect.lower() != b"100-continue":
        return Rejection(417, "the only Expect understood is 100-continue")
    return target_fault(request)


def target_fault(request: Request) -> Rejection | None:
    """Split the target into path and query; what is wrong with it, if anything."""
    target = request.target
    if len(target) > URL_BYTES_MAX:
        return Rejection(414, f"the URL is longer than {URL_BYTES_MAX} bytes")
    if not target.startswith(b"/"):
        scheme, found, rest = target.partition(b"://")
        authority, slash, path = rest.partition(b"/")
        if not found or scheme.lower() not in (b"http", b"https") or authority != request.headers.get(b"host"):
            return Rejection(400, "the request target is neither a path nor a URL of this host")
        target = slash + path if slash else b"/"
    if not target.isascii() or b"#" in target or b"\\" in target:
        return Rejection(400, "the URL holds characters that must be percent-encoded")
    request.path, _, request.query = target.partition(b"?")
    return None


def header_fault(name: bytes, value: bytes) -> Rejection | None:
    """What is wrong with one header, if anything."""
    if not name or not TOKEN.issuperset(name):
        return Rejection(400, "a header name holds a character that is not allowed")
    if b"\0" in value or b"\r" in value or b"\n" in value:
        return Rejection(400, "a header value holds a control character")
    return None


def length_fault(value: bytes) -> Rejection | None:
    """Content-Length is digits only: no sign, no space, no underscore, no list."""
    if not value.isdigit() or len(value) > LENGTH_DIGITS_MAX:
        return Rejection(400, "Content-Length is not a number")
    return None


LENGTH_DIGITS_MAX = 15  # a petabyte; the body limit comes long before
