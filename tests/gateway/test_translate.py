"""Another server's answer, in messages and events of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.gateway.translate import LINE_BYTES_MAX, Translation
from cordee.http.exchange import Answer, Listener
from cordee.wire.realtime import RealtimeShape

LONG = b"x" * (LINE_BYTES_MAX + 1)


class Target:
    """Outlet: what reached the client."""

    def __init__(self) -> None:
        self.listener: Listener | None = None
        self.is_open = True
        self.is_slow = False
        self.written: list[dict[str, Any]] = []
        self.begun: list[int] = []
        self.answered: Answer | None = None
        self.failed: Answer | None = None

    def answer(self, answer: Answer) -> None:
        self.answered = answer
        self.is_open = False

    def begin(self, status: int, headers: bytes) -> None:
        self.begun.append(status)

    def write(self, data: bytes) -> None:
        if data and self.is_open:
            self.written.append(json.loads(data))

    def end(self, data: bytes = b"") -> None:
        self.write(data)
        self.is_open = False

    def fail(self, answer: Answer, event: bytes) -> None:
        if self.is_open:
            self.failed = answer
            self.is_open = False

    def abort(self) -> None:
        self.is_open = False


def event(**said: Any) -> bytes:
    return b"data: " + json.dumps({"id": "x", "object": "chat.completion.chunk", **said}).encode() + b"\n\n"


def choice(content: str | None = None, finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"index": index, "delta": {} if content is None else {"content": content}, "finish_reason": finish}


ANSWER = (
    b": a comment\n\n"
    + event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
    + event(choices=[choice("Hé")])
    + event(choices=[choice("llo")])
    + event(choices=[choice(None, "length")])
    + event(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5})
    + b"data: [DONE]\n\n"
)
WHOLE = json.dumps(
    {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
).encode()


def made(stream: bool = True) -> tuple[Target, Translation]:
    target = Target()
    return target, Translation(target, RealtimeShape("a"), stream=stream)


@given(st.lists(st.integers(0, len(ANSWER)), max_size=6).map(sorted))
def test_a_stream_is_the_same_however_it_was_cut(cuts):
    target, translation = made()
    translation.begin(200, b"")
    for start, end in zip([0, *cuts], [*cuts, len(ANSWER)], strict=True):
        if end > start:
            translation.write(ANSWER[start:end])
    translation.end()
    *deltas, completed = target.written
    assert "".join(delta["text"] for delta in deltas) == "Héllo"
    assert deltas[-1]["finish_reason"] == "length"
    assert completed["choices"] == [{"choice": 0, "finish_reason": "length"}]
    assert completed["usage"]["total_tokens"] == 5


def test_a_whole_answer_becomes_a_stream_where_one_was_asked_for():
    target, translation = made()
    translation.answer(Answer(200, b"", WHOLE))
    assert [message["type"] for message in target.written] == ["call.delta", "call.delta", "call.completed"]
    assert target.written[0]["text"] == "Hello"


def test_a_whole_answer_stays_whole_where_that_was_asked_for():
    target, translation = made(stream=False)
    translation.answer(Answer(200, b"x: y\r\n", WHOLE))
    assert target.answered is not None
    assert (target.answered.status, target.answered.headers) == (200, b"x: y\r\n")
    assert json.loads(target.answered.body)["choices"][0]["text"] == "Hello"


def test_a_refusal_passes_as_it_is():
    target, translation = made()
    refusal = Answer(429, b"retry-after: 3\r\n", b'{"error":{}}')
    translation.answer(refusal)
    assert target.answered is refusal


def test_an_error_in_the_middle_is_the_answers_end():
    target, translation = made()
    translation.begin(200, b"")
    translation.write(
        event(choices=[choice("He")]) + event(error={"message": "it fell", "code": "x"}) + event(choices=[choice("l")])
    )
    translation.end()
    assert [message["text"] for message in target.written] == ["He"]
    assert target.failed is not None
    assert json.loads(target.failed.body)["error"]["message"] == "it fell"


@pytest.mark.parametrize(
    "garbage",
    [b"data: {\n\n", b"data: []\n\n", b'data: {"choices":7}\n\n', b"data: \xff\n\n", LONG],
)
def test_garbage_is_an_error_and_never_a_short_answer(garbage):
    target, translation = made()
    translation.begin(200, b"")
    translation.write(event(choices=[choice("He")]) + garbage)
    translation.end()
    assert target.failed is not None
    assert target.failed.status == 502
    assert [message["type"] for message in target.written] == ["call.delta"]


def test_a_whole_answer_that_is_none_is_an_error():
    target, translation = made()
    translation.answer(Answer(200, b"", b"<html>"))
    assert target.answered is not None
    assert target.answered.status == 502
