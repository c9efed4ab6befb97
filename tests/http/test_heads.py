"""A head that comes again byte for byte is not parsed again: it must make no difference to anybody."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.http.serving import Serving, conversation, read_answer, read_to_end, statuses
from tests.rig import until

POST = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"
GET = b"GET /%s HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.fixture(scope="module")
def shared() -> Iterator[Serving]:
    with Serving() as serving:
        yield serving
    assert serving.faults == []


@pytest.fixture
def serving(shared: Serving) -> Serving:
    shared.handler.forget()
    return shared


def test_each_request_has_its_own_body_and_is_admitted_anew(serving):
    with serving.connect() as client, serving.connect() as other:
        for body in (b"first", b"secon", b"third"):
            for each in (client, other):
                each.sendall(POST + body)
                assert read_answer(each)[2] == b"POST /a|" + body
    assert serving.handler.admitted == [b"/a"] * 6


def test_the_same_head_with_its_body_in_pieces_or_behind_it_is_read_as_ever(serving):
    with serving.connect() as client:
        client.sendall(POST + b"first")
        assert read_answer(client)[2] == b"POST /a|first"
        client.sendall(POST + b"se")
        time.sleep(0.01)
        client.sendall(b"con")
        assert read_answer(client)[2] == b"POST /a|secon"
        client.sendall(POST + b"third" + GET % b"b" + POST + b"fourt")
        assert [read_answer(client)[2] for _ in range(3)] == [b"POST /a|third", b"GET /b|", b"POST /a|fourt"]
        client.sendall(POST[:20])
        time.sleep(0.01)
        client.sendall(POST[20:] + b"fifth")
        assert read_answer(client)[2] == b"POST /a|fifth"
        client.sendall(POST + b"sixth and more")
        assert statuses(read_to_end(client)) == [200, 400]


def test_empty_lines_alone_are_no_request(serving):
    with serving.connect() as fresh:
        fresh.sendall(b"\r\n\r\n")
        time.sleep(0.01)
        fresh.sendall(GET % b"a")
        assert read_answer(fresh)[2] == b"GET /a|"
        fresh.sendall(b"\r\n\r\n")
        time.sleep(0.01)
    with serving.connect() as other:
        other.sendall(b"\r\n\r\n")
        other.settimeout(0.1)
        with pytest.raises(TimeoutError):
            other.recv(1)
    assert serving.handler.paths == [b"/a"]


def test_a_refused_head_is_refused_again(serving):
    with serving.connect() as client:
        for _ in range(3):
            client.sendall(GET % b"no")
            assert read_answer(client)[0] == 403


def test_http_1_0_closes_every_time(serving):
    for _ in range(3):
        with conversation(serving, b"GET /a HTTP/1.0\r\n\r\n") as client:
            assert b"connection: close" in read_to_end(client)


def test_a_doubtful_head_is_doubtful_every_time(serving):
    for _ in range(3):
        with conversation(serving, b"GET /a HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n") as client:
            assert statuses(read_to_end(client)) == [400]
    assert serving.handler.handled == []


def test_what_is_remembered_is_small_and_forgotten_soon(serving):
    with serving.connect() as client:
        large = b"POST /large HTTP/1.1\r\nHost: h\r\nX: %s\r\nContent-Length: 30000\r\n\r\n" % (b"x" * 10_000)
        for head, body in ((POST, b"first"), (large, b"y" * 30_000)):
            client.sendall(head + body)
            read_answer(client)
        assert sum(len(head) + len(request.body) for head, (request, _) in list(serving.server.heads.items())) < 8192
    until(lambda: not serving.server.heads, "the heads to be forgotten")
