"""Pieces of a chat completion become OpenAI's events, and nothing of them is lost."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from cordee.services.chats.responses.deltas import CallPiece, Delta, Extent, behind, heard
from cordee.services.chats.responses.naming import names
from cordee.services.chats.responses.request import read
from cordee.services.chats.responses.said import Skipping, cut, extent_of, folded, words_of
from cordee.services.chats.responses.speaking import Event, Speaking
from cordee.services.chats.responses.translate_out import INTERRUPTED, ending_of, head

ID = "resp_" + "0123456789ab" + "cd" * 10
FIELDS = head(read(b'{"model":"m","input":"Hello"}'), ID, 1_800_000_000.0)
_event: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)

short = st.text(st.characters(codec="utf-8"), max_size=4)


@st.composite
def answers(draw: st.DrawFn) -> list[Delta]:
    """Reasoning, then text, then calls, each in pieces."""
    pieces = [Delta(reasoning=text) for text in draw(st.lists(short, max_size=4))]
    pieces += [Delta(content=text) for text in draw(st.lists(short, max_size=6))]
    for index in range(draw(st.integers(0, 3))):
        pieces.append(Delta(calls=(CallPiece(index, f"call_{index}", "f", draw(short)),)))
        pieces += [Delta(calls=(CallPiece(index, "", "", text),)) for text in draw(st.lists(short, max_size=3))]
    return pieces


def speak(pieces: list[Delta]) -> tuple[list[Event], dict[str, Any]]:
    speaking = Speaking(FIELDS, names(ID))
    events = speaking.begin()
    for piece in pieces:
        events += speaking.hear(piece)
    events += speaking.close()
    response = speaking.response(ending_of("stop"), 1_800_000_001.0)
    return [*events, speaking.last(response)], response


@given(answers())
def test_the_deltas_together_are_the_done_text_and_the_final_objects(pieces: list[Delta]) -> None:
    events, response = speak(pieces)
    deltas: dict[int, str] = {}
    done: dict[int, str] = {}
    for event in (msgspec.json.decode(event.data) for event in events):
        if event["type"].endswith(".delta"):
            deltas[event["output_index"]] = deltas.get(event["output_index"], "") + event["delta"]
        if event["type"].endswith(("_text.done", "arguments.done")):
            done[event["output_index"]] = event.get("text", event.get("arguments"))
    items = response["output"]
    final = {
        at: item["arguments"] if "arguments" in item else item["content"][0]["text"] for at, item in enumerate(items)
    }
    assert {at: text for at, text in deltas.items() if text} == {at: text for at, text in done.items() if text}
    assert done == final
    told = ["".join(getattr(piece, name) for piece in pieces) for name in ("reasoning", "content")]
    assert list(words_of(items)[:2]) == told


@given(answers())
def test_every_event_and_the_response_are_what_the_official_package_expects(pieces: list[Delta]) -> None:
    events, response = speak(pieces)
    for event in events:
        _event.validate_json(event.data)
    Response.model_validate(response)
    assert [event.number for event in events] == list(range(len(events)))


@given(answers(), st.data())
def test_a_stream_broken_anywhere_goes_on_in_other_pieces_with_no_character_missing_or_twice(
    pieces: list[Delta], data: st.DataObject
) -> None:
    events, response = speak(pieces)
    at = data.draw(st.integers(2, len(events) - 2)) if len(events) > 3 else 2
    first = Speaking(FIELDS, names(ID))
    sent = first.begin()
    kept = list(sent)
    for piece in pieces:  # what was stored ends with a whole piece
        more = first.hear(piece)
        if len(kept) + len(more) > at:
            break
        kept += more
    output, number = folded(event.data for event in kept)
    skipping = Skipping(output)
    second = Speaking(FIELDS, names(ID))
    second.resume(output, number)
    rest: list[Event] = []
    for piece in _joined(pieces):
        inside, outside, skipping.left = behind(piece, skipping.left)
        skipping.note(inside)
        rest += second.hear(outside)
    rest += second.close()
    assert skipping.is_same
    assert second.response(ending_of("stop"), 1_800_000_001.0)["output"] == response["output"]
    assert [event.number for event in kept + rest] == list(range(len(kept) + len(rest)))


@given(answers(), st.data())
def test_an_output_cut_at_an_extent_has_exactly_that_extent(pieces: list[Delta], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(pieces)))
    extent = Extent()
    for piece in pieces[:count]:
        extent = extent.plus(piece)
    whole = speak(pieces)[1]["output"]
    assert extent_of(cut(whole, extent)) == extent


def _joined(pieces: list[Delta]) -> list[Delta]:
    """The same answer in larger pieces."""
    return [
        Delta(
            "".join(one.reasoning for one in pair),
            "".join(one.content for one in pair),
            "",
            sum((one.calls for one in pair), ()),
        )
        for pair in (pieces[at : at + 2] for at in range(0, len(pieces), 2))
    ]


def test_a_plain_answer_is_these_events() -> None:
    chunks = [
        b'{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}',
        b'{"choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}],"usage":null}',
        b'{"choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":null}],"usage":null}',
        b'{"choices":[{"index":0,"delta":{},"finish_reason":"length"}],"usage":null}',
        b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,'
        b'"prompt_tokens_details":{"cached_tokens":1},"completion_tokens_details":{"reasoning_tokens":0}}}',
    ]
    speaking = Speaking(FIELDS, names(ID))
    events = speaking.begin()
    for chunk in chunks:
        events += speaking.hear(heard(chunk))
    events += speaking.close()
    response = speaking.response(ending_of(speaking.finish), 1_800_000_001.0)
    events.append(speaking.last(response))
    assert [event.type for event in events] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        "response.output_text.delta", "response.output_text.delta", "response.output_text.done",
        "response.content_part.done", "response.output_item.done", "response.incomplete",
    ]  # fmt: skip
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["usage"] == {
        "input_tokens": 3, "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0}, "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 5,
    }  # fmt: skip
    assert events[4].data == (
        b'{"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_0123456789abcdcdcdcdcdcdcdcdcdce",'
        b'"output_index":0,"content_index":0,"delta":"Hel","logprobs":[]}'
    )


def test_an_interrupted_answer_has_an_incomplete_item() -> None:
    speaking = Speaking(FIELDS, names(ID))
    speaking.begin()
    speaking.hear(Delta(content="Half an ans"))
    response = speaking.response(INTERRUPTED, 1.0)
    assert response["status"] == response["output"][0]["status"] == "incomplete"
    assert response["output"][0]["content"][0]["text"] == "Half an ans"
