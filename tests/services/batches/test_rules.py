from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cordee.services.base.door import Whole
from cordee.services.batches.records import Ended, Endpoint, Fate, Line, Result, Status
from cordee.services.batches.rules.cutting import Cutter, TooLongError
from cordee.services.batches.rules.lines import Check, key_of
from cordee.services.batches.rules.pace import Pace
from cordee.services.batches.rules.results import written
from cordee.services.batches.rules.verdict import Again, verdict


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\n", b"")), max_size=8), st.integers(1, 30))
def test_a_file_is_cut_into_the_same_lines_however_it_comes(texts: list[bytes], step: int):
    whole, cutter = b"\n".join(texts), Cutter(100)
    found: list[tuple[int, bytes]] = []
    for begin in range(0, len(whole), step):
        found += cutter.feed(whole[begin : begin + step])
    found += cutter.end()
    assert found == [(n, text.strip()) for n, text in enumerate(texts, 1) if text.strip()]


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory():
    with pytest.raises(TooLongError, match="2"):
        list(Cutter(10).feed(b"ok\n" + b"x" * 11))


def test_a_body_is_kept_as_the_bytes_that_were_given():
    text = b'{"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model":"m",  "input":"\\u00e9"}}'
    assert Check(Endpoint.EMBEDDINGS).line(3, text) == Line(3, "a", b'{"model":"m",  "input":"\\u00e9"}')


def test_a_key_fits_into_a_header_whatever_the_custom_id_is():
    key = key_of("batch_1", "é" * 512)
    assert key.isascii()
    assert len(key) < 255
    assert key != key_of("batch_1", "é" * 511) != key_of("batch_2", "é" * 511)


def _whole(status: int, body: bytes = b"{}", **headers: str) -> Whole:
    return Whole(status, headers, body)


@pytest.mark.parametrize(
    ("answer", "tries", "expected"),
    [
        (_whole(429), 99, Again(None, True)),
        (Whole(503, {"retry-after": "7"}, b""), 0, Again(7.0, True)),
        (Whole(503, {"retry-after": "nan"}, b""), 0, Again(None, True)),
        (_whole(409, b'{"error": {"code": "idempotency_in_progress"}}'), 0, Again(None, True)),
        (_whole(409, b'{"error": {"code": "other"}}'), 0, Fate.FAILED),
        (_whole(500), 0, Again(None, False)),
        (_whole(500), 2, Fate.FAILED),
        (_whole(400), 0, Fate.FAILED),
        (_whole(200), 0, Fate.SERVED),
        (_whole(200, b"no json"), 0, Again(None, False)),
        (_whole(200, b"no json"), 2, Fate.FAILED),
    ],
)
def test_what_an_answer_means(answer: Whole, tries: int, expected: Again | Fate):
    found = verdict(1, answer, tries, 3)
    assert (found.fate if isinstance(found, Result) else found) == expected


def test_tokens_are_counted_from_either_kind_of_usage():
    chat = {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}}
    responses = {"input_tokens": 3, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 2}}
    for usage in (chat, responses):
        found = verdict(1, _whole(200, json.dumps({"usage": usage}).encode()), 0, 1)
        assert isinstance(found, Result)
        assert (found.usage.input, found.usage.cached, found.usage.output) == (3, 2, 4)
    strange = verdict(1, _whole(200, b'{"usage": {"prompt_tokens": "x", "completion_tokens": -1}}'), 0, 1)
    assert isinstance(strange, Result)
    assert strange.usage.input == strange.usage.output == 0


def test_a_line_of_a_file_is_one_line_whatever_was_answered():
    text = written("batch_7", Status.COMPLETED, Ended(1, "a\u2028", 200, "req_1", b'{\r\n "x": "\\n"\n}'))
    assert text.count(b"\n") == 1
    assert json.loads(text) == {
        "id": "batch_req_700000001", "custom_id": "a\u2028",
        "response": {"status_code": 200, "request_id": "req_1", "body": {"x": "\n"}}, "error": None,
    }  # fmt: skip
    for end, code in ((Status.EXPIRED, "batch_expired"), (Status.CANCELLED, "batch_cancelled")):
        line = json.loads(written("batch_7", end, Ended(2, "b", 0, "", b"")))
        assert (line["response"], line["error"]["code"]) == (None, code)


def test_the_pace_doubles_until_it_is_refused_and_then_grows_slowly():
    pace = Pace(64, 2.0, 300.0)
    for _ in range(6):
        pace.served()
    assert pace.window == 8
    pace.refused(10.0, None)
    pace.refused(10.0, 5.0)  # the others that ran then: the window halves once
    assert (pace.window, pace.room(0, 14.9), pace.room(1, 15.0)) == (4, 0, 3)
    for _ in range(4):
        pace.served()
    assert pace.window in (4, 5)


@settings(max_examples=60)
@given(st.lists(st.one_of(st.none(), st.floats(0, 1e9)), max_size=40), st.integers(1, 20))
def test_the_pace_never_stops_for_ever_and_never_exceeds_what_is_allowed(refusals: list[float | None], most: int):
    pace = Pace(most, 2.0, 300.0)
    for after_s in refusals:
        pace.served()
        pace.refused(0.0, after_s)
    assert 1 <= pace.window <= most
    assert pace.pause_s(0.0) <= 300.0
    assert pace.room(0, 300.0) >= 1
