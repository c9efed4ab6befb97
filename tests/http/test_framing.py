"""The corpus of doubtful framing: whatever two parsers could read differently is refused and the connection closed, and
nothing that follows it is ever taken for a request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from cordee.http.request import Limits
from tests.http.serving import Serving, read_to_end, statuses

CANARY = b"GET /canary HTTP/1.1\r\nHost: h\r\n\r\n"
LIMITS = Limits(body_bytes_max=1000, header_bytes_max=32 * 1024)


@pytest.fixture(scope="module")
def shared() -> Iterator[Serving]:
    with Serving(LIMITS) as serving:
        yield serving
    assert serving.faults == []


@pytest.fixture
def serving(shared: Serving) -> Serving:
    shared.handler.forget()
    return shared


def post(*lines: bytes, body: bytes = b"hello") -> bytes:
    return b"POST /doubtful HTTP/1.1\r\nHost: h\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def get(
    *lines: bytes, target: bytes = b"/doubtful", host: bytes = b"Host: h\r\n", version: bytes = b"HTTP/1.1"
) -> bytes:
    return b"GET " + target + b" " + version + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


LENGTHS = {
    "plus": b"+5", "minus": b"-1", "hexadecimal": b"0x5", "underscore": b"5_0", "empty": b"", "beyond 64 bits": b"18446744073709551616",
    "2^64+5": b"18446744073709551621", "list of equals": b"5, 5", "no-break space": b"\xa05", "no-break space after": b"5\xa0",
    "fraction": b"5.0", "letters": b"five", "inner space": b"5 0", "vertical tab": b"\x0b5", "exponent": b"5e0",
}  # fmt: skip

CODINGS = {
    "leading comma": b",chunked", "identity": b"identity", "xchunked": b"xchunked", "twice in one": b"chunked, chunked",
    "gzip and chunked": b"gzip, chunked", "chunked and gzip": b"chunked, gzip", "quoted": b'"chunked"',
    "vertical tab": b"\x0bchunked", "parameter": b"chunked;x=1", "chunked and identity": b"chunked, identity", "empty": b"",
    "chunkedx": b"chunkedx",
}  # fmt: skip

SIZES = {
    "plus": b"+5", "minus": b"-5", "prefix": b"0x5", "underscore": b"5_", "empty": b"", "beyond 64 bits": b"10000000000000005",
    "space before": b" 5", "not hexadecimal": b"g",
}  # fmt: skip

REFUSED: dict[str, tuple[bytes, set[int]]] = {
    **{f"Content-Length {name}": (post(b"Content-Length: " + value), {400}) for name, value in LENGTHS.items()},
    "two lengths that differ": (post(b"Content-Length: 5", b"Content-Length: 6"), {400}),
    "two lengths that agree": (post(b"Content-Length: 5", b"Content-Length: 5"), {400}),
    "length and chunked": (post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), {400}),
    "chunked and length": (post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"), {400}),
    **{
        f"Transfer-Encoding {name}": (post(b"Transfer-Encoding: " + value, body=b"5\r\nhello\r\n0\r\n\r\n"), {400, 501})
        for name, value in CODINGS.items()
    },
    "Transfer-Encoding twice": (
        post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), {400, 501},
    ),
    "Transfer-Encoding behind a space": (post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"), {400}),
    "chunked over HTTP/1.0": (
        b"POST /doubtful HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400, 501},
    ),
    **{f"chunk size {name}": (chunked(value + b"\r\nhello\r\n0\r\n\r\n"), {400, 413}) for name, value in SIZES.items()},
    "chunk size ends in a bare LF": (chunked(b"5\nhello\r\n0\r\n\r\n"), {400}),
    "chunk size ends in CR and more": (chunked(b"5\rXhello\r\n0\r\n\r\n"), {400}),
    "chunk longer than its size": (chunked(b"5\r\nhello!\r\n0\r\n\r\n"), {400}),
    "chunk ends in a bare LF": (chunked(b"5\r\nhello\n0\r\n\r\n"), {400}),
    "bare LF after the last chunk": (chunked(b"5\r\nhello\r\n0\n\n"), {400}),
    "chunk extension with a bare LF": (chunked(b"5;a\nhello\r\n0\r\n\r\n"), {400}),
    "chunk extension with NUL": (chunked(b"5;a=\x00\r\nhello\r\n0\r\n\r\n"), {400}),
    "chunked body over the limit": (chunked(b"400\r\n" + b"x" * 0x400 + b"\r\n0\r\n\r\n"), {413}),
    "body over the limit": (post(b"Content-Length: 1001", body=b"x" * 1001), {413}),
    "body far over the limit": (post(b"Content-Length: 999999999999", body=b"x"), {413}),
    "bare LF after the request line": (b"GET /doubtful HTTP/1.1\nHost: h\r\n\r\n", {400}),
    "bare LF after a header": (b"GET /doubtful HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", {400}),
    "bare LF only": (b"GET /doubtful HTTP/1.1\nHost: h\n\n", {400}),
    "bare CR in a value": (get(b"X: a\rb"), {400}),
    "NUL in a value": (get(b"X: a\0b"), {400}),
    "NUL in a name": (get(b"X\0: a"), {400}),
    "folded header": (get(b"X: a\r\n b"), {400}),
    "folded length": (post(b"Content-Length:\r\n 5"), {400}),
    "space before the colon": (get(b"X : a"), {400}),
    "tab before the colon": (get(b"X\t: a"), {400}),
    "space before the first header": (b"GET /doubtful HTTP/1.1\r\n Host: h\r\nHost: h\r\n\r\n", {400}),
    "header without a colon": (get(b"broken"), {400}),
    "header without a name": (get(b": a"), {400}),
    "name that is not ASCII": (get(b"X\xe9: a"), {400}),
    "control character in a value": (get(b"X: a\x01"), {400}),
    "no Host": (get(host=b""), {400}),
    "two Hosts": (get(b"Host: h"), {400}),
    "empty Host": (get(host=b"Host: \r\n"), {400}),
    "Host with a path": (get(host=b"Host: a/../x?\r\n"), {400}),
    "Host with a fragment": (get(host=b"Host: a#b\r\n"), {400}),
    "Host with a user": (get(host=b"Host: a@b\r\n"), {400}),
    "Host with a comma": (get(host=b"Host: a, b\r\n"), {400}),
    "absolute form of another host": (get(target=b"http://other/doubtful"), {400}),
    "absolute form with a user": (get(target=b"http://h@other/doubtful"), {400}),
    "absolute form without a host": (get(target=b"http:///doubtful"), {400}),
    "another scheme": (get(target=b"file://h/doubtful"), {400}),
    "asterisk form": (b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", {400}),
    "authority form": (b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", {400}),
    "target without a slash": (get(target=b"doubtful"), {400}),
    "fragment in the target": (get(target=b"/doubtful#a"), {400}),
    "backslash in the target": (get(target=b"/doubtful\\a"), {400}),
    "NUL in the target": (get(target=b"/doubtful\0"), {400}),
    "target that is not ASCII": (get(target=b"/doubtful\xe9"), {400}),
    "quote in the target": (get(target=b'/doubtful"'), {400}),
    "URL of 100 KiB": (get(target=b"/" + b"x" * 100 * 1024), {414}),
    "URL of 9 KiB": (get(target=b"/" + b"x" * 9 * 1024), {414}),
    "header of 1 MiB": (get(b"X: " + b"x" * (1 << 20)), {431}),
    "10,000 headers": (get(*(b"X%d: x" % i for i in range(10_000))), {431}),
    "101 headers": (get(*(b"X%d: x" % i for i in range(101))), {431}),
    "one header ten thousand times": (get(*([b"Accept: aaaaaaaa"] * 10_000)), {431}),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400}),
    "HTTP/0.9": (b"GET /doubtful\r\n", {400}),
    "HTTP/1.2": (get(version=b"HTTP/1.2"), {400}),
    "HTTP/3.7": (get(version=b"HTTP/3.7"), {400}),
    "version with a space": (get(version=b"HTTP/1.1 "), {400}),
    "unknown method": (b"GIT /doubtful HTTP/1.1\r\nHost: h\r\n\r\n", {400}),
    "method in lower case": (b"get /doubtful HTTP/1.1\r\nHost: h\r\n\r\n", {400}),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), {400}),
    "upgrade to a WebSocket": (get(b"Connection: Upgrade", b"Upgrade: websocket"), {400}),
    "upgrade to h2c": (get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AA"), {400}),
    "Expect something else": (post(b"Content-Length: 5", b"Expect: 200-ok"), {417}),
    "Expect a list": (post(b"Content-Length: 5", b"Expect: 100-continue, x"), {417}),
    "Expect twice": (post(b"Content-Length: 5", b"Expect: 100-continue", b"Expect: 100-continue"), {400}),
    "Expect spelled with a tab": (post(b"Content-Length: 5", b"Expect: 100\t-continue"), {417}),
    "compressed body": (post(b"Content-Length: 5", b"Content-Encoding: gzip"), {415}),
    "doubly compressed body": (post(b"Content-Length: 5", b"Content-Encoding: br, gzip"), {415}),
    "Authorization twice": (get(b"Authorization: Bearer a", b"Authorization: Bearer b"), {400}),
}  # fmt: skip


@pytest.mark.parametrize(("request_bytes", "expected"), REFUSED.values(), ids=REFUSED)
def test_doubtful_framing_is_refused_and_nothing_behind_it_is_read(
    serving: Serving, request_bytes: bytes, expected: set[int]
) -> None:
    with serving.connect() as client:
        with suppress(ConnectionError):  # a server that has heard enough may close while we still speak
            client.sendall(request_bytes + CANARY)
        received = read_to_end(client)
    assert len(statuses(received)) == 1, received[:300]
    assert statuses(received)[0] in expected, received[:300]
    assert b"connection: close" in received
    assert serving.handler.handled == []
    assert b"/canary" not in serving.handler.admitted


@pytest.mark.parametrize("pieces", [1, 7])
def test_framing_is_judged_alike_however_the_bytes_arrive(serving: Serving, pieces: int) -> None:
    data = post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n") + CANARY
    with serving.connect() as client:
        for at in range(0, len(data), pieces):
            with suppress(ConnectionError):
                client.sendall(data[at : at + pieces])
        assert statuses(read_to_end(client)) == [400]
    assert serving.handler.handled == []


ACCEPTED: dict[str, bytes] = {
    "plain": get(),
    "absolute form of this host": get(target=b"http://h/doubtful"),
    "empty lines before": b"\r\n\r\n" + get(),
    "no blank after the colon": get(b"X:y"),
    "chunked in capitals": post(b"Transfer-Encoding: CHUNKED", body=b"5\r\nhello\r\n0\r\n\r\n"),
    "chunk extension": chunked(b"5;name=value\r\nhello\r\n0\r\n\r\n"),
    "chunk size with zeros": chunked(b"0005\r\nhello\r\n0\r\n\r\n"),
    "trailer": chunked(b"5\r\nhello\r\n0\r\nX-Checksum: 1\r\n\r\n"),
    "length with zeros": post(b"Content-Length: 005"),
    "100 headers": get(*(b"X%d: x" % i for i in range(99))),
    "percent-encoded": get(target=b"/doubtful"),
    "Content-Encoding identity": post(b"Content-Length: 5", b"Content-Encoding: identity"),
    "value that is not ASCII": get(b"X: \xe9"),
}


@pytest.mark.parametrize("request_bytes", ACCEPTED.values(), ids=ACCEPTED)
def test_what_is_unusual_but_clear_is_answered_and_the_next_request_too(serving: Serving, request_bytes: bytes) -> None:
    with serving.connect() as client:
        client.sendall(request_bytes + CANARY.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        received = read_to_end(client)
    assert statuses(received) == [200, 200], received
    assert serving.handler.paths == [b"/doubtful", b"/canary"]


def test_valid_requests_before_an_invalid_one_are_answered(serving: Serving) -> None:
    with serving.connect() as client:
        client.sendall(get(target=b"/a") + get(target=b"/b") + b"GARBAGE\r\n\r\n" + CANARY)
        received = read_to_end(client)
    assert statuses(received) == [200, 200, 400]
    assert serving.handler.paths == [b"/a", b"/b"]


def test_bytes_after_the_body_are_not_part_of_it(serving: Serving) -> None:
    with serving.connect() as client:
        client.sendall(post(b"Content-Length: 5", body=b"hello, world") + CANARY)
        received = read_to_end(client)
    assert statuses(received) == [200, 400]
    assert serving.handler.handled[0].body == b"hello"
    assert len(serving.handler.handled) == 1


def test_a_get_with_a_body_hides_no_request(serving: Serving) -> None:
    with serving.connect() as client:
        client.sendall(get(b"Content-Length: %d" % len(CANARY), b"Connection: close") + CANARY)
        assert statuses(read_to_end(client)) == [200]
    assert serving.handler.paths == [b"/doubtful"]
    assert serving.handler.handled[0].body == CANARY


def test_trailers_never_become_headers(serving: Serving) -> None:
    with serving.connect() as client:
        client.sendall(
            post(b"Transfer-Encoding: chunked", b"Connection: close", body=b"0\r\nX-Request-Timeout: 1\r\nX: y\r\n\r\n")
        )
        assert statuses(read_to_end(client)) == [200]
    headers = serving.handler.handled[0].headers
    assert b"x" not in headers
    assert b"x-request-timeout" not in headers


@pytest.mark.parametrize(
    "flood",
    [b"0\r\n" + b"".join(b"x%d: yyyyyyyy\r\n" % i for i in range(100_000)), b"5;" + b"x" * (1 << 20), b"1\r\nx\r\n" * 200_000],
    ids=["trailers without end", "an extension without end", "one-byte chunks without end"],
)  # fmt: skip
def test_a_chunked_body_cannot_go_on_for_ever(serving: Serving, flood: bytes) -> None:
    with serving.connect() as client:
        with suppress(ConnectionError):
            client.sendall(chunked(flood))
        assert statuses(read_to_end(client))[0] in (400, 413, 431)
    assert serving.handler.handled == []
