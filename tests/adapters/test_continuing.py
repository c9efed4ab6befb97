"""A stream that broke off goes on elsewhere as if it had not: one id, one role, one finish, one [DONE], usage once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.adapters.upstreams import dialect as dialects
from cordee.adapters.upstreams.continuing import Continuing
from cordee.adapters.upstreams.dialect import CHAT, COMPLETIONS, Dialect, ImpossibleError
from cordee.adapters.upstreams.events import Broken
from cordee.adapters.upstreams.journal import Journal, read
from cordee.domain.replica import Continuation
from tests.adapters.receiver import Recorder

EVENTS = [(b"content-type", b"text/event-stream")]
WORDS = [f"w{number} " for number in range(8)]
DONE = b"data: [DONE]\n\n"


def events(
    id: str, words: list[str], *, ids: int = -1, finish: str | None = "stop", usage: Any = None, chat: bool = True
) -> list[bytes]:
    """A server's stream: role, words, finish, usage, [DONE]. `ids`: the token id of the first word, -1 for none."""

    def one(choices: list[Any], **more: Any) -> bytes:
        kind = "chat.completion.chunk" if chat else "text_completion"
        body = {"id": id, "object": kind, "created": len(id), "model": f"m-{id}", "choices": choices, **more}
        return b"data: " + json.dumps(body).encode() + b"\n\n"

    found = []
    if chat:
        more = {"prompt_token_ids": [1, 2, 3]} if ids >= 0 else {}
        found.append(one([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}], **more))
    for number, word in enumerate(words):
        part: dict[str, Any] = {"delta": {"content": word}} if chat else {"text": word}
        if ids >= 0:
            part["token_ids"] = [ids + number]
        found.append(one([{"index": 0, **part, "finish_reason": None}]))
    if finish is not None:
        part = {"delta": {}} if chat else {"text": ""}
        found.append(one([{"index": 0, **part, "finish_reason": finish}]))
        if usage is not None:
            found.append(one([], usage=usage))
        found.append(DONE)
    return found


def body(**more: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, **more}).encode()


@given(st.integers(1, len(WORDS)), st.booleans(), st.integers(1, 60))
def test_wherever_it_breaks_the_client_sees_one_stream(at, by_tokens, size):
    first = events("one", WORDS, ids=100 if by_tokens else -1)[: at + 1]
    journal = read(first)
    usage = {"prompt_tokens": 10 + at, "completion_tokens": len(WORDS) - at, "total_tokens": 10 + len(WORDS)}
    rest = b"".join(events("two", WORDS[at:], ids=500 if by_tokens else -1, usage=usage, chat=not by_tokens))
    recorder = Recorder()
    going = Continuing(recorder, journal, is_chat=True)
    going.head(200, EVENTS)
    for start in range(0, len(rest), size):
        going.body(rest[start : start + size])
    going.complete()
    assert recorder.end == "complete"
    stream = b"".join(first + recorder.pieces)
    payloads = [part.removeprefix(b"data: ") for part in stream.split(b"\n\n") if part]
    assert payloads.pop() == b"[DONE]"
    seen = [json.loads(payload) for payload in payloads]
    assert {(e["id"], e["created"], e["model"], e["object"]) for e in seen} == {
        ("one", 3, "m-one", "chat.completion.chunk")
    }
    deltas = [choice["delta"] for e in seen for choice in e["choices"]]
    assert "".join(delta.get("content", "") for delta in deltas) == "".join(WORDS)
    assert sum("role" in delta for delta in deltas) == 1
    assert sum(choice["finish_reason"] is not None for e in seen for choice in e["choices"]) == 1
    (counted,) = [e["usage"] for e in seen if e.get("usage")]
    assert counted == {"prompt_tokens": 10, "completion_tokens": len(WORDS), "total_tokens": 10 + len(WORDS)}
    again = read(first + recorder.pieces)
    assert again.text == "".join(WORDS)


def test_an_answer_of_which_only_the_envelope_left_begins_anew():
    path, request = asked(Continuation.TEXT, Dialect.VLLM, events("one", WORDS)[:1])
    assert (path, len(request["messages"]), request["model"]) == (CHAT, 1, "remote")


def test_a_second_break_is_gone_on_from_as_well():
    first = events("one", WORDS, ids=100)[:3]
    recorder = Recorder()
    going = Continuing(recorder, read(first), is_chat=True)
    going.head(200, EVENTS)
    going.body(b"".join(events("two", WORDS[2:], ids=102, chat=False)[:2]))
    journal = read(first + recorder.pieces)
    assert (journal.ids, journal.prompt_ids) == ([100, 101, 102, 103], [1, 2, 3])
    assert journal.text == "".join(WORDS[:4])


@pytest.mark.parametrize(
    ("status", "headers", "end"),
    [
        (400, EVENTS, "broken"),
        (200, [(b"content-type", b"application/json")], "broken"),
        (500, [], "broken"),
        (429, [], "busy"),
    ],
)
def test_an_answer_that_does_not_go_on_leaves_nothing(status, headers, end):
    recorder = Recorder()
    going = Continuing(recorder, Journal(), is_chat=True)
    going.head(status, headers)
    going.body(b'{"choices": []}')
    going.complete()
    assert (recorder.end, recorder.pieces) == (end, [])


@pytest.mark.parametrize("left_out", [1, 2])
def test_a_rest_without_its_end_is_broken(left_out):
    recorder = Recorder()
    going = Continuing(recorder, read(events("one", WORDS)[:3]), is_chat=True)
    going.head(200, EVENTS)
    rest = events("two", WORDS[2:])
    del rest[-left_out]
    going.body(b"".join(rest))
    going.complete()
    assert recorder.end == "broken"
    assert DONE not in recorder.pieces


def test_garbage_in_the_rest_is_broken_once():
    recorder = Recorder()
    going = Continuing(recorder, read(events("one", WORDS)[:3]), is_chat=True)
    going.head(200, EVENTS)
    going.body(b"data: {nonsense\n\n")
    going.body(b"data: {}\n\n")
    going.broken("it closed the connection", ran=True)
    assert recorder.end == "broken"


# -- how each kind of server is asked


def asked(
    able: Continuation, dialect: Dialect, sent: list[bytes], path: str = CHAT, **more: Any
) -> tuple[str, dict[str, Any]]:
    _, found, data = dialects.continuing(path, body(**more), read(sent), able, dialect, "remote")
    return found, json.loads(data)


def test_tokens_go_into_the_completions_endpoint_with_the_prompts():
    path, request = asked(
        Continuation.TOKENS, Dialect.VLLM, events("one", WORDS, ids=100)[:4], max_tokens=20, temperature=0.5, seed=3
    )
    assert path == COMPLETIONS
    assert request["prompt"] == [1, 2, 3, 100, 101, 102]
    assert (request["max_tokens"], request["temperature"], request["seed"]) == (17, 0.5, 3)
    assert (request["model"], request["return_token_ids"], request["stream"]) == ("remote", True, True)
    assert "messages" not in request


def test_tokens_whose_text_has_not_left_are_computed_again():
    sent = events("one", ["a", "b", ""], ids=100)[:4]
    assert asked(Continuation.TOKENS, Dialect.VLLM, sent)[1]["prompt"] == [1, 2, 3, 100, 101]


@pytest.mark.parametrize("more", [{"stop": ["x"]}, {"tools": [{"type": "function"}]}])
def test_what_the_chat_endpoint_alone_can_do_goes_on_from_text(more):
    path, request = asked(Continuation.TOKENS, Dialect.VLLM, events("one", WORDS, ids=100)[:4], **more)
    assert (path, request["continue_final_message"], request["add_generation_prompt"]) == (CHAT, True, False)


@pytest.mark.parametrize(
    ("sent", "more", "way"),
    [
        (events("one", WORDS, ids=100)[:4], {}, Continuation.TOKENS),
        (events("one", WORDS)[:4], {}, Continuation.TEXT),  # it has not told its ids
        (events("one", WORDS, ids=100)[:4], {"stop": ["x"]}, Continuation.TEXT),
        (events("one", WORDS, ids=100)[:1], {}, Continuation.RESTART),  # nothing but an envelope has left
    ],
)
def test_the_way_of_going_on_is_the_one_that_was_taken_and_not_the_best_there_is(sent, more, way):
    assert dialects.continuing(CHAT, body(**more), read(sent), Continuation.TOKENS, Dialect.VLLM, None)[0] is way


MARKS = {
    Dialect.VLLM: ({}, {"continue_final_message": True, "add_generation_prompt": False}),
    Dialect.SGLANG: ({}, {"continue_final_message": True, "add_generation_prompt": False}),
    Dialect.LLAMA_CPP: ({}, {"continue_final_message": True, "add_generation_prompt": False}),
    Dialect.PARTIAL: ({"partial": True}, {}),
}


@pytest.mark.parametrize("dialect", MARKS)
def test_every_kind_of_server_marks_the_message_to_go_on_with_in_its_own_way(dialect):
    path, request = asked(Continuation.TEXT, dialect, events("one", WORDS)[:4])
    in_message, beside = MARKS[dialect]
    assert path == CHAT
    assert request["messages"][-1] == {"role": "assistant", "content": "".join(WORDS[:3]), **in_message}
    assert {
        name: request[name] for name in ("continue_final_message", "add_generation_prompt") if name in request
    } == beside


def test_a_completion_goes_on_from_its_prompt_and_text_at_any_server():
    sent = events("one", WORDS, chat=False)[:3]
    path, request = asked(Continuation.TEXT, Dialect.UNKNOWN, sent, COMPLETIONS, prompt="Once ", max_tokens=10)
    assert (path, request["prompt"], request["max_tokens"]) == (COMPLETIONS, "Once " + "".join(WORDS[:3]), 7)


@pytest.mark.parametrize("more", [{"n": 2}, {"response_format": {"type": "json_object"}}, {"guided_regex": "x"}])
def test_what_text_cannot_go_on_with_is_not_tried(more):
    with pytest.raises(ImpossibleError):
        asked(Continuation.TEXT, Dialect.VLLM, events("one", WORDS)[:4], **more)


@pytest.mark.parametrize("field", ["tool_calls", "reasoning_content"])
def test_an_answer_that_is_more_than_text_is_not_gone_on_with(field):
    delta = {field: [{"index": 0}] if field == "tool_calls" else "hm"}
    sent = [b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"]
    with pytest.raises(ImpossibleError):
        asked(Continuation.TEXT, Dialect.VLLM, sent)


def test_what_cannot_have_been_a_stream_is_no_journal():
    with pytest.raises(Broken):
        read([b"data: {nonsense\n\n"])


@pytest.mark.parametrize(
    ("dialect", "wished", "able"),
    [
        (Dialect.UNKNOWN, "auto", Continuation.RESTART),
        (Dialect.VLLM, "auto", Continuation.TOKENS),
        (Dialect.SGLANG, "auto", Continuation.TEXT),
        (Dialect.LLAMA_CPP, "auto", Continuation.TEXT),
        (Dialect.UNKNOWN, "text", Continuation.TEXT),
        (Dialect.VLLM, "restart", Continuation.RESTART),
        (Dialect.UNKNOWN, "tokens", Continuation.TOKENS),
    ],
)
def test_what_a_server_can_do_follows_from_what_it_is_unless_somebody_says_otherwise(dialect, wished, able):
    assert dialects.able(dialect, wished) is able


def test_token_ids_are_asked_for_without_touching_the_rest():
    assert json.loads(dialects.with_ids(b' {"a": 1} \n')) == {"a": 1, "return_token_ids": True}


def test_a_token_that_may_be_the_beginning_of_a_character_is_not_gone_on_from():
    """Given a prompt that ends within a character, vLLM 0.32 answers with the text of the whole prompt."""
    first = events("one", WORDS[:3], ids=100)[:4]
    way, _, _ = dialects.continuing(CHAT, body(), read(first), Continuation.TOKENS, Dialect.VLLM, None)
    assert way is Continuation.TOKENS
    several = json.loads(first[-1][6:])
    several["choices"][0]["token_ids"] = [102, 103]
    journal = read([*first[:-1], b"data: " + json.dumps(several).encode() + b"\n\n"])
    way, _, _ = dialects.continuing(CHAT, body(), journal, Continuation.TOKENS, Dialect.VLLM, None)
    assert way is Continuation.TEXT


def test_tokens_held_back_until_their_character_is_whole_are_part_of_what_is_gone_on_from():
    first = events("one", WORDS[:3], ids=100)[:4]
    held = json.loads(first[2][6:])
    held["choices"][0]["delta"]["content"] = ""
    journal = read([*first[:2], b"data: " + json.dumps(held).encode() + b"\n\n", first[3]])
    assert journal.ids == [100, 101, 102]
    assert journal.is_whole
