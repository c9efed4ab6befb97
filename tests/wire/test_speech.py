from __future__ import annotations

import json
from typing import Any

from cordee.domain.chunk import Finish
from cordee.wire.chat import ChatShape
from cordee.wire.realtime import RealtimeShape
from cordee.wire.reasoning import THINK
from cordee.wire.shape import Choice, Shape, Usage
from cordee.wire.speech import Speech, parsed
from cordee.wire.tool_families import HERMES, MISTRAL
from cordee.wire.v1.shape import EventShape

SPEECH = Speech(THINK, False, frozenset({"f"}), HERMES, 128)
TEXT = '<think>\nHm.\n</think>\n\nI look.\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'


def shape(speech: Speech = SPEECH, id: str = "c1") -> Shape:
    return parsed(ChatShape("chatcmpl-1", "m", 1, "fp", with_usage=False), speech, id)


def events(*raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(one.removeprefix(b"data: "))["choices"][0] for one in raw if one]


def streamed(text: str, size: int, made: Shape | None = None) -> list[dict[str, Any]]:
    made = made or shape()
    cut = [text[at : at + size] for at in range(0, len(text), size)]
    return events(*(made.delta(0, piece, None) for piece in cut), made.close(0, Finish.STOP))


def together(said: list[dict[str, Any]]) -> tuple[str, str, list[dict[str, Any]], str]:
    """What a client makes of a stream."""
    content = "".join(one["delta"].get("content", "") for one in said)
    thoughts = "".join(one["delta"].get("reasoning_content", "") for one in said)
    calls: list[dict[str, Any]] = []
    for call in (call for one in said for call in one["delta"].get("tool_calls", ())):
        if "id" in call:
            assert call["index"] == len(calls)
            calls.append(call)
        else:
            calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
    return content, thoughts, calls, said[-1]["finish_reason"]


def test_a_stream_and_a_whole_answer_say_the_same():
    body = json.loads(shape().whole([Choice(0, TEXT, None, Finish.STOP)], Usage(1, 2)))
    message = body["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"], message["reasoning"]) == ("I look.", "Hm.", "Hm.")
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
    assert body["choices"][0]["finish_reason"] == "tool_calls"
    for size in (1, 3, 17, 1000):
        content, thoughts, calls, reason = together(streamed(TEXT, size))
        assert (content, thoughts, reason) == ("I look.", "Hm.", "tool_calls")
        assert [{key: call[key] for key in ("id", "type", "function")} for call in calls] == message["tool_calls"]


def test_the_first_piece_of_a_call_has_its_name_and_the_others_its_arguments_only():
    calls = [call for one in streamed(TEXT, 1) for call in one["delta"].get("tool_calls", ())]
    assert calls[0]["function"]["name"] == "f"
    assert calls[0]["type"] == "function"
    assert calls[0]["id"].startswith("call_")
    assert all(set(call) == {"index", "function"} for call in calls[1:])
    assert len(calls) > 3


def test_an_answer_without_content_has_none():
    text = TEXT[TEXT.index("<tool_call>") :]
    message = json.loads(shape().whole([Choice(0, text, None, Finish.STOP)], Usage(1, 2)))["choices"][0]["message"]
    assert message["content"] is None
    assert "reasoning_content" not in message


def test_an_answer_that_calls_nothing_ends_as_ever():
    assert together(streamed("Hello.", 2)) == ("Hello.", "", [], "stop")
    body = json.loads(shape().whole([Choice(0, "Hello.", None, Finish.LENGTH)], Usage(1, 2)))
    assert body["choices"][0]["finish_reason"] == "length"
    assert "tool_calls" not in body["choices"][0]["message"]


def test_ids_of_calls_are_those_of_the_same_call_and_of_no_other():
    def ids(id: str, choice: int) -> list[str]:
        body = json.loads(
            shape(id=id).whole([Choice(choice, TEXT + TEXT[TEXT.index("<tool") :], None, Finish.STOP)], Usage(1, 2))
        )
        return [call["id"] for call in body["choices"][0]["message"]["tool_calls"]]

    assert ids("c1", 0) == ids("c1", 0)
    assert len({*ids("c1", 0), *ids("c1", 1), *ids("c2", 0)}) == 6


def test_some_models_want_ids_of_nine_characters():
    made = shape(Speech(None, False, frozenset({"f"}), MISTRAL, 128, is_calling=True))
    body = json.loads(made.whole([Choice(0, '[{"name": "f", "arguments": {}}]', None, Finish.STOP)], Usage(1, 2)))
    assert len(body["choices"][0]["message"]["tool_calls"][0]["id"]) == 9


def test_what_a_client_has_is_heard_but_not_said_again():
    whole = together(streamed(TEXT, 1))
    for place in range(len(TEXT)):
        first = shape()
        before = events(*(first.delta(0, letter, None) for letter in TEXT[:place]))
        second = shape()
        second.skip(0, TEXT[:place])
        assert together(before + streamed(TEXT[place:], 1, second)) == whole


def test_an_event_that_would_say_nothing_is_not_sent():
    assert shape().delta(0, "<tool_c", None) == b""


def test_text_that_another_server_told_apart_is_taken_as_it_is():
    made = shape()
    made.verbatim()
    assert together(streamed("<tool_call>", 100, made)) == ("<tool_call>", "", [], "stop")


def test_control_tokens_that_are_marks_are_spelled_and_no_others():
    made = shape(Speech(None, False, frozenset({"f"}), MISTRAL, 128, spelled={5: b"[TOOL_CALLS]"}))
    (text,) = made.texts(lambda token: b"" if token in (5, 6) else b"x", (), 1)
    assert [text.push(token) for token in (1, 5, 6)] == ["x", "[TOOL_CALLS]", ""]


def test_reasoning_is_counted_in_tokens():
    made = shape()
    (text,) = made.texts(lambda token: [b"<think>", b"a", b"</think>", b"b"][token], (), 1)
    for token in (0, 1, 2, 3, 3):
        text.push(token)
    said = json.loads(made.usage(Usage(1, 5)).removeprefix(b"data: "))
    assert said["usage"]["completion_tokens_details"] == {"reasoning_tokens": 3}


def test_messages_of_a_websocket_say_it_too():
    made = parsed(RealtimeShape("r1"), SPEECH, "c1")
    said = [json.loads(made.delta(0, TEXT, None)), json.loads(made.close(0, Finish.STOP))]
    assert (said[0]["text"], said[0]["reasoning"]) == ("I look.", "Hm.")
    assert said[0]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
    assert said[1]["finish_reason"] == "tool_calls"
    assert json.loads(made.usage(Usage(1, 2)))["choices"] == [{"choice": 0, "finish_reason": "tool_calls"}]
    whole = json.loads(made.whole([Choice(0, TEXT, None, Finish.STOP)], Usage(1, 2)))["choices"][0]
    assert (whole["text"], whole["reasoning"], whole["tool_calls"][0]["function"]["name"]) == ("I look.", "Hm.", "f")


def test_a_format_without_places_for_it_gets_the_text():
    events = EventShape("c", "m")
    assert parsed(events, SPEECH, "c") is events
    plain = ChatShape("chatcmpl-1", "m", 1, "fp", with_usage=False)
    assert parsed(plain, Speech(), "c") is plain
