"""Where a server reached by URL stands: its connections, and the bytes of a request to it. Decides nothing about answers.

The key goes into the head of each request and nowhere else: no log, no error and no `repr` shows it.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

from cordee.http.client import Exchange, Receiver
from cordee.http.pool import CONNECT_S, ConnectionPool

HOPS = b"x-cordee-hops"  # how many gateways a request has passed
VIA = b"x-cordee-via"  # the installations it has passed, the last one at the end
NO_START = (-1, b"")


class Endpoint:
    """One server. `url` is its base, with or without `/v1`; `installation` names us to whoever may be a gateway itself.

    Raises ValueError for a URL that is none.
    """

    def __init__(self, url: str, key: str | None = None, installation: str = "", connect_s: float = CONNECT_S) -> None:
        parts = urlsplit(url)
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.username
            or parts.query
            or parts.fragment
        ):
            raise ValueError(f"replica {url!r} is not of the form http://HOST:PORT")
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        port = parts.port or (443 if tls else 80)
        self.id = f"{parts.hostname}:{port}"
        self._base = parts.path.rstrip("/").removesuffix("/v1").encode()
        self._head = b"host: %s\r\ncontent-type: application/json\r\n" % parts.netloc.encode()
        if key:
            self._head += b"authorization: Bearer %s\r\n" % key.encode()
        self._first_hop = b"%s: 1\r\n%s: %s\r\n" % (HOPS, VIA, installation.encode()) if installation else b""
        # The beginning of a request and how long it says its answer is of use, by its path: there are as many as endpoints.
        self._starts: dict[str, tuple[int, bytes]] = {}
        self._connections = ConnectionPool(parts.hostname, port, tls, connect_s)

    def post(
        self, path: str, body: bytes, id: str, headers: Sequence[tuple[bytes, bytes]], timeout_s: float, receiver: Receiver
    ) -> Exchange:  # fmt: skip
        """`headers`: what is passed on of the client's; with hops among them, they are not counted from one again.
        `timeout_s`: how long the answer is still of use, in seconds."""
        extra = self._first_hop
        if headers:
            lines = b"".join([b"%s: %s\r\n" % header for header in headers])
            extra = lines if HOPS in lines else lines + extra
        timeout_ms, start = self._starts.get(path, NO_START)
        if timeout_ms != int(timeout_s * 1000):  # most calls have as long as the one before
            timeout_ms = int(timeout_s * 1000)
            start = b"POST %s%s HTTP/1.1\r\n%sx-request-timeout: %.3f\r\nx-request-id: " % (
                self._base, path.encode(), self._head, timeout_ms / 1000
            )  # fmt: skip
            self._starts[path] = timeout_ms, start
        request = b"%s%s\r\n%scontent-length: %d\r\n\r\n%s" % (start, id.encode(), extra, len(body), body)
        return self._connections.send(request, receiver)

    def get(self, path: str, receiver: Receiver) -> Exchange:
        return self._connections.send(
            b"GET %s%s HTTP/1.1\r\n%s\r\n" % (self._base, path.encode(), self._head), receiver
        )

    def close(self) -> None:
        self._connections.close()
