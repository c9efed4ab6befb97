"""Answers on their way through: whole events, an end only behind a whole answer, and never a truncated success."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.adapters.upstreams.passing import Passing
from tests.adapters.receiver import Recorder

EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8")]
JSON = [(b"content-type", b"application/json")]


def event(content: str = "hi", finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "x", "choices": [choice]}).encode() + b"\n\n"


START, MORE, END, DONE = event("a"), event("b"), event("", "stop"), b"data: [DONE]\n\n"
WHOLE = START + MORE + END + DONE
FAILURE = b'data: {"error": {"message": "out of memory", "type": "server_error", "code": 500}}\n\n'
FILTERED = b'data: {"error": {"message": "no", "type": "x", "code": "data_inspection_failed"}}\n\n'


def stream(*pieces: bytes, headers: Sequence[tuple[bytes, bytes]] = EVENTS, end: str = "complete") -> Recorder:
    recorder = Recorder()
    passing = Passing(recorder, stream=True)
    passing.head(200, headers)
    for piece in pieces:
        if not recorder.end:
            passing.body(piece)
    if not recorder.end:
        getattr(passing, end)()
    return recorder


def whole(status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]] = JSON, end: str = "complete") -> Recorder:
    recorder = Recorder()
    passing = Passing(recorder, stream=False)
    passing.head(status, headers)
    if body:
        passing.body(body)
    getattr(passing, end)()
    return recorder


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_however_a_stream_is_cut_it_arrives_byte_for_byte_in_whole_events(cuts):
    at = sorted({0, *cuts, len(WHOLE)})
    recorder = stream(*(WHOLE[a:b] for a, b in pairwise(at)))
    assert (recorder.end, b"".join(recorder.pieces)) == ("complete", WHOLE)
    assert all(piece.endswith(b"\n\n") for piece in recorder.pieces)


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 40))
def test_a_stream_that_ends_early_is_broken_and_leaves_only_whole_events(length, size):
    pieces = [WHOLE[at : min(at + size, length)] for at in range(0, length, size)]
    recorder = stream(*pieces, end="closed")
    if length >= len(WHOLE) - len(b"\n\n"):
        assert recorder.end == "complete"  # only the empty line behind [DONE] is missing
        return
    assert recorder.end == "broken"
    sent = b"".join(recorder.pieces)
    assert WHOLE.startswith(sent)
    assert not sent or sent.endswith(b"\n\n")
    assert b"[DONE]" not in sent


BROKEN = {
    "no [DONE]": [START, MORE, END],
    "no finish": [START, MORE, DONE],
    "no event at all": [],
    "only [DONE]": [DONE],
    "no events": [b"<html>sorry</html>\n\n"],
    "no JSON": [b"data: {nonsense\n\n" + DONE],
    "an error to begin with": [FAILURE],
    "an error in the middle": [START, FAILURE],
    "an error in one piece with text": [START, MORE + FAILURE, DONE],
    "an event without end": [START, b"data: " + b"x" * 2_000_000],
}


@pytest.mark.parametrize("pieces", BROKEN.values(), ids=BROKEN)
def test_what_is_no_whole_stream_is_broken_and_no_end_is_passed_on(pieces):
    recorder = stream(*pieces)
    assert recorder.end == "broken"
    assert b"[DONE]" not in b"".join(recorder.pieces)
    assert b"error" not in b"".join(recorder.pieces)


@pytest.mark.parametrize("name", ["no event at all", "only [DONE]", "no events", "no JSON", "an error to begin with"])
def test_what_is_wrong_from_the_beginning_leaves_nothing_so_that_it_can_be_had_elsewhere(name):
    assert stream(*BROKEN[name]).pieces == []


def test_what_is_the_clients_fault_goes_through_in_the_middle_of_a_stream():
    recorder = stream(START, FILTERED)
    assert recorder.end == "complete"
    assert b"".join(recorder.pieces) == START + FILTERED


def test_comments_before_the_first_event_commit_to_nothing():
    assert stream(b": please wait\n\n", end="closed").pieces == []
    assert b"".join(stream(b": please wait\n\n", WHOLE).pieces) == WHOLE


def test_text_that_looks_like_an_error_is_text():
    tricky = event('data: {"error": 1}')
    assert b"".join(stream(START, tricky, END, DONE).pieces) == START + tricky + END + DONE


def test_windows_line_ends_are_line_ends():
    crlf = WHOLE.replace(b"\n", b"\r\n")
    recorder = stream(crlf[:30], crlf[30:])
    assert (recorder.end, b"".join(recorder.pieces)) == ("complete", crlf)


def test_a_whole_answer_passes():
    recorder = whole(200, b'{"choices": []}')
    assert (recorder.end, recorder.status, recorder.pieces) == ("complete", 200, [b'{"choices": []}'])


@pytest.mark.parametrize(
    "body", [b'{"choices": [', b"", b"<html></html>", b"[1]", b'{"error": {"message": "x"}}', b'{"error": "x"}']
)
@pytest.mark.parametrize("end", ["complete", "closed"])
def test_a_whole_answer_that_is_none_is_broken(body, end):
    assert whole(200, body, end=end).end == "broken"


def test_an_answer_that_ends_with_its_connection_is_whole_if_its_content_is():
    assert whole(200, b'{"choices": []}', end="closed").end == "complete"


@pytest.mark.parametrize("kind", [b"text/html", b"text/plain", b"application/octet-stream"])
def test_success_of_another_kind_is_no_success(kind):
    assert whole(200, b"{}", [(b"content-type", kind)]).end == "broken"


def test_a_stream_nobody_asked_for_is_broken():
    assert whole(200, WHOLE, EVENTS).end == "broken"


@pytest.mark.parametrize("status", [400, 404, 408, 413, 422, 451])
def test_the_clients_mistakes_pass_unchanged(status):
    recorder = whole(status, b"as it is")
    assert (recorder.end, recorder.status, recorder.pieces) == ("complete", status, [b"as it is"])


@pytest.mark.parametrize(("status", "ran"), [(500, True), (502, True), (401, False), (403, False), (508, False)])
def test_the_servers_own_faults_are_broken(status, ran):
    recorder = whole(status, b"x")
    assert (recorder.end, recorder.ran, recorder.pieces) == ("broken", ran, [])


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"7", 7.0), (b"0.5", 0.5), (b"900", 900.0), (b"999999", 3600.0), (b"soon", None), (b"-1", None), (b"", None)],
)
@pytest.mark.parametrize("status", [429, 503])
def test_no_room_is_busy_for_as_long_as_the_server_says(status, value, seconds):
    recorder = whole(status, b"x", [(b"retry-after", value)])
    assert (recorder.end, recorder.retry_after_s) == ("busy", seconds)
