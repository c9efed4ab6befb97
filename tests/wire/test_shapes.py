"""Golden files: every byte of an answer, as clients get it. After a change that is meant, look at the difference and write
them anew with CORDEE_GOLDEN=write."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.wire import errors, models
from cordee.wire.chat import ChatShape
from cordee.wire.completion import CompletionShape
from cordee.wire.shape import DONE, Choice, Shape, Usage, error_event

GOLDEN = Path(__file__).parent / "golden"
CREATED = 1_700_000_000
PIECES = [b"Hel", b"lo", b" \xf0\x9f", b"\x98\x80", b"\n\n"]
INJECTION = '\n\ndata: [DONE]\n\nevent: x\nid: 1\r\rretry: 0\u2028\u2029\0"\\</script>'


def piece(token: int) -> bytes:
    return PIECES[token]


def chat(with_usage: bool = False) -> Shape:
    return ChatShape("chatcmpl-1", "a-model", CREATED, "fp_0123456789ab", with_usage=with_usage)


def completion(with_usage: bool = False, echo: str = "") -> Shape:
    return CompletionShape("cmpl-1", "a-model", CREATED, "fp_0123456789ab", with_usage=with_usage, echo=echo)


def stream(shape: Shape, choices: int = 1, with_logprobs: bool = False, with_usage: bool = False) -> bytes:
    """Two pieces a choice, as the gateway writes them."""
    out = b"".join(shape.open(choice) for choice in range(choices))
    offset = 0
    for token, text in enumerate(("Hel", "lo")):
        for choice in range(choices):
            given = [shape.position(piece, token, LOGPROBS, offset)] if with_logprobs else None
            out += shape.delta(choice, text, given)
        offset += len(text)
    for choice in range(choices):
        out += shape.close(choice, Finish.STOP if choice == 0 else Finish.LENGTH)
    return out + (shape.usage(Usage(5, 2 * choices)) if with_usage else b"") + DONE


LOGPROBS = TokenLogprobs(-0.25, ((0, -0.25), (2, -1.5)))


def whole(shape: Shape, choices: int = 1, with_logprobs: bool = False) -> bytes:
    entries = [shape.position(piece, 0, LOGPROBS, 0), shape.position(piece, 1, LOGPROBS, 3)] if with_logprobs else None
    ends = [Finish.STOP, Finish.LENGTH]
    return shape.whole([Choice(at, "Hello", entries, ends[at % 2]) for at in range(choices)], Usage(5, 2 * choices))


CASES: dict[str, bytes] = {
    "chat-stream": stream(chat()),
    "chat-stream-usage": stream(chat(with_usage=True), with_usage=True),
    "chat-stream-n2": stream(chat(), choices=2),
    "chat-stream-logprobs": stream(chat(), with_logprobs=True),
    "chat-stream-broken": chat().open(0) + chat().delta(0, "Hel", None) + error_event(errors.body(502, "no worker is left")),
    "chat-whole": whole(chat()),
    "chat-whole-n2": whole(chat(), choices=2),
    "chat-whole-logprobs": whole(chat(), with_logprobs=True),
    "completion-stream": stream(completion()),
    "completion-stream-usage": stream(completion(with_usage=True), with_usage=True),
    "completion-stream-n2": stream(completion(), choices=2),
    "completion-stream-logprobs": stream(completion(), with_logprobs=True),
    "completion-stream-echo": stream(completion(echo="Say: ")),
    "completion-whole": whole(completion()),
    "completion-whole-n2": whole(completion(), choices=2),
    "completion-whole-logprobs": whole(completion(), with_logprobs=True),
    "completion-whole-echo": whole(completion(echo="Say: ")),
    "injection-stream": chat().delta(0, INJECTION, None) + completion().delta(0, INJECTION, None),
    "error-400": errors.body(400, "invalid value for 'n'", "n", "invalid_value"),
    "error-401": errors.body(401, "incorrect API key provided", None, "invalid_api_key"),
    "error-404": errors.body(404, "the model 'x' does not exist", "model", "model_not_found"),
    "error-429": errors.body(429, "this key may send 3 requests per minute", None, "rate_limit_exceeded"),
    "error-503": errors.body(503, "model 'm' is at capacity", None, "queue_full"),
    "models-list": models.listing([models.Listed("a-model"), models.Listed("b/model")], CREATED),
    "models-one": models.one(models.Listed("a-model"), CREATED),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_bytes_are_those_of_the_golden_file(name):
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("CORDEE_GOLDEN") == "write":
        file.write_bytes(CASES[name])
    assert CASES[name] == file.read_bytes()


def test_every_golden_file_belongs_to_a_case():
    assert {file.stem for file in GOLDEN.glob("*.txt")} == set(CASES)


def events(data: bytes) -> list[Any]:
    """As a client reads server-sent events: by lines, which end in LF, CR or CRLF."""
    out = []
    for line in data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        assert not line or line.startswith(b"data: "), line
        if line and line != b"data: [DONE]":
            out.append(json.loads(line[6:]))
    return out


@pytest.mark.parametrize("name", [name for name in CASES if "stream" in name])
def test_every_event_is_one_line_of_json_and_an_empty_one(name):
    lines = CASES[name].split(b"\n")
    assert all((line == b"") == bool(at % 2) for at, line in enumerate(lines[:-1]))
    assert len(events(CASES[name])) == sum(bool(line) for line in lines) - CASES[name].endswith(DONE)


def test_text_that_looks_like_events_arrives_as_text():
    chat_event, completion_event = events(CASES["injection-stream"])
    assert chat_event["choices"][0]["delta"]["content"] == INJECTION
    assert completion_event["choices"][0]["text"] == INJECTION


def test_names_that_look_like_events_arrive_as_text():
    for shape in (
        ChatShape(INJECTION, INJECTION, CREATED, INJECTION, with_usage=True),
        CompletionShape(INJECTION, INJECTION, CREATED, INJECTION, with_usage=True),
    ):
        for event in events(stream(shape, with_usage=True)):
            assert event["model"] == event["id"] == INJECTION


def test_a_stream_says_the_same_as_a_whole_answer():
    for shape in (chat(with_usage=True), completion(with_usage=True)):
        given = events(stream(shape, choices=2, with_usage=True))
        answer = json.loads(whole(shape, choices=2))
        assert [event["choices"] for event in given][-1] == []
        assert given[-1]["usage"] == answer["usage"]
        assert all(event["usage"] is None for event in given[:-1])
        for choice in answer["choices"]:
            mine = [c for event in given for c in event["choices"] if c["index"] == choice["index"]]
            text = "".join(c["delta"].get("content", "") if "delta" in c else c["text"] for c in mine)
            assert text == (choice["message"]["content"] if "message" in choice else choice["text"])
            assert [c["finish_reason"] for c in mine][-1] == choice["finish_reason"]
            assert {c["finish_reason"] for c in mine[:-1]} == {None}


def test_half_a_character_in_logprobs_keeps_its_bytes():
    entry = chat().position(piece, 2, TokenLogprobs(-1.0), 0)
    assert entry == {"token": " \ufffd", "logprob": -1.0, "bytes": [32, 240, 159], "top_logprobs": []}


def test_offsets_of_completion_logprobs_count_the_echo():
    assert completion(echo="Say: ").position(piece, 0, LOGPROBS, 3)["text_offset"] == 8
