"""The heads of what passes through: what of a request's goes on to the service, and what of its answer's to the client. Pure.

A key or a cookie ends here: the gateway has looked at it, and vouches for the caller in a header of its own. Only where people sign in
(open passages) does it go on, because there the service looks itself. What a client says in our own header's place is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

from cordee.http.request import Request
from cordee.wire.vouch import HEADER

HOPS = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"),
        *(b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    }
)  # of one connection only (RFC 9110, 7.6.1)
OURS = HEADER.lower().encode()
REQUEST_ID = b"x-request-id"
WRITTEN_ANEW = HOPS | {b"content-length", b"expect", OURS, REQUEST_ID}
SECRETS = frozenset({b"authorization", b"cookie", b"x-api-key", b"api-key", b"x-csrf-token"})
NOT_OF_ANSWERS = HOPS | {b"content-length", b"date", b"server", OURS, REQUEST_ID}
WITH_BODY = frozenset({b"POST", b"PUT", b"PATCH"})
BODILESS = frozenset({204, 304})


def request_head(request: Request, id: str, vouched: str, *, is_open: bool, is_last: bool) -> bytes:
    """The head for the service, with the length of the body. `vouched`: who asks, "" for nobody known; `is_last`: its connection
    serves nobody else."""
    dropped = WRITTEN_ANEW if is_open else WRITTEN_ANEW | SECRETS
    named = request.headers.get(b"connection")
    if named is not None:
        dropped = dropped | {one.strip().lower() for one in named.split(b",")}
    query = b"?" + request.query if request.query else b""
    lines = [b"%s %s%s HTTP/1.1\r\n" % (request.method, request.path, query)]
    lines += [b"%s: %s\r\n" % header for header in request.headers.items() if header[0] not in dropped]
    if b"host" not in request.headers:
        lines.append(b"host: cordee\r\n")  # HTTP/1.0 may come without one
    lines.append(b"%s: %s\r\n" % (REQUEST_ID, id.encode()))
    if vouched:
        lines.append(b"%s: %s\r\n" % (OURS, vouched.encode()))
    if is_last:
        lines.append(b"connection: close\r\n")
    lines.append(_framing(request))
    return b"".join(lines)


def _framing(request: Request) -> bytes:
    inflow = request.inflow
    if inflow is not None and inflow.length is None:
        return b"transfer-encoding: chunked\r\n\r\n"
    length = len(request.body) if inflow is None else inflow.length or 0
    if not length and request.method not in WITH_BODY:
        return b"\r\n"
    return b"content-length: %d\r\n\r\n" % length


def answer_head(status: int, headers: Sequence[tuple[bytes, bytes]], id: str) -> tuple[bytes, int | None, bool]:
    """The lines of the answer's head; the length of its body where it is known; and whether its end is, by that or by its status."""
    lines = b"%s: %s\r\n" % (REQUEST_ID, id.encode())
    length: int | None = None
    for name, value in headers:
        if name == b"content-length":
            length = int(value)  # the parser has checked that it is a number
        elif name not in NOT_OF_ANSWERS:
            lines += b"%s: %s\r\n" % (name, value)
    if status in BODILESS:
        return lines, None, True
    return lines, length, length is not None
