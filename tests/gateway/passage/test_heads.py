"""What of a head goes on: everything that is meant for the other end, and nothing of this connection, of secrets, or of our own header."""

from __future__ import annotations

import pytest

from cordee.gateway.passage.heads import answer_head, request_head
from cordee.http.inflow import Inflow
from cordee.http.request import Request

HEADERS = {
    b"host": b"chat.example", b"authorization": b"Bearer sk", b"cookie": b"a=b", b"x-api-key": b"sk", b"content-type": b"text/x",
    b"x-forwarded-proto": b"https", b"traceparent": b"00-1", b"connection": b"keep-alive, X-Own", b"x-own": b"1", b"te": b"trailers",
    b"expect": b"100-continue", b"x-request-id": b"theirs", b"x-cordee-caller": b"forged", b"last-event-id": b"7",
}  # fmt: skip


def made(method: bytes = b"POST", body: bytes = b"", inflow: Inflow | None = None) -> Request:
    request = Request(method, "1.1", dict(HEADERS), keep_alive=True)
    request.path, request.query, request.body, request.inflow = b"/v1/files", b"a=1", body, inflow
    return request


def lines(head: bytes) -> set[bytes]:
    assert head.endswith(b"\r\n\r\n")
    return set(head[:-4].split(b"\r\n"))


def test_on_a_vouched_path_no_secret_goes_on():
    assert lines(request_head(made(body=b"abc"), "id1", "v1.sealed", is_open=False, is_last=True)) == {
        b"POST /v1/files?a=1 HTTP/1.1", b"host: chat.example", b"content-type: text/x", b"x-forwarded-proto: https",
        b"traceparent: 00-1", b"last-event-id: 7", b"x-request-id: id1", b"x-cordee-caller: v1.sealed", b"connection: close",
        b"content-length: 3",
    }  # fmt: skip


def test_on_an_open_path_the_service_sees_the_key_and_still_no_forged_caller():
    found = lines(request_head(made(b"GET"), "id1", "", is_open=True, is_last=False))
    assert {b"authorization: Bearer sk", b"cookie: a=b", b"x-api-key: sk"} <= found
    assert not any(line.startswith((b"x-cordee-caller", b"content-length", b"connection")) for line in found)


@pytest.mark.parametrize(
    ("inflow", "framing"),
    [
        (Inflow(0, 1 << 40), b"content-length: %d" % (1 << 40)),
        (Inflow(0, None), b"transfer-encoding: chunked"),
        (None, b"content-length: 0"),
    ],
)
def test_a_body_is_framed_as_it_will_come(inflow, framing):
    assert framing in lines(request_head(made(inflow=inflow), "i", "", is_open=False, is_last=True))


def test_of_an_answer_goes_on_what_the_service_says():
    said = [
        (b"content-type", b"a/b"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"transfer-encoding", b"chunked"),
        (b"server", b"x"), (b"date", b"now"), (b"connection", b"close"), (b"x-request-id", b"theirs"), (b"content-range", b"bytes 0-1/2"),
    ]  # fmt: skip
    head, length, is_known = answer_head(206, said, "id1")
    assert head == (
        b"x-request-id: id1\r\ncontent-type: a/b\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ncontent-range: bytes 0-1/2\r\n"
    )
    assert (length, is_known) == (None, False)


def test_the_length_of_an_answer_is_known_by_its_head_or_its_status():
    assert answer_head(200, [(b"content-length", b"7")], "i")[1:] == (7, True)
    assert answer_head(204, [], "i")[1:] == (None, True)
    assert answer_head(304, [(b"content-length", b"7")], "i")[1:] == (None, True)
