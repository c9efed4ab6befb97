"""A stream with reasoning and calls of tools, cut anywhere and resumed from its last event, is the stream that was not cut."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cordee.flow.facts import Fact
from cordee.flow.mailbox import Mailbox
from cordee.gateway.kept.sink import KeptSink
from cordee.memory.journal import MemoryJournal
from cordee.wire.chat import ChatShape
from cordee.wire.position import read
from cordee.wire.reasoning import THINK
from cordee.wire.speech import Speech, parsed
from cordee.wire.tool_families import HERMES
from tests.gateway.kept.test_sink import CALL, Held, Page, feed, id_of

PIECES = [
    b"<think>", b"hm", b"</think>", b"</th", b"ink>", b"\n", b"<tool", b"_call>", b"<tool_call>", b'{"name": "f", "arguments": ', b"{",
    b'"a": 1', b"}", b"</tool_call>", b"text", b" ", b"END", b"E",
]  # fmt: skip
SPEECH = Speech(THINK, False, frozenset({"f"}), HERMES, 128)


def sink_on(page: Page, n: int, stops: tuple[str, ...] = (), start: str | None = None) -> KeptSink:
    journal = MemoryJournal(lambda: 0.0, 10, 1 << 20)
    kept = Held(CALL, "", journal, 1.0, lambda what: what.close(), page, resumes=start is not None)
    box: Mailbox[Fact] = Mailbox()
    shape = parsed(ChatShape("chatcmpl-1", "m", 1, "fp", with_usage=True), SPEECH, CALL.id)
    sink = KeptSink(
        page, box, shape, PIECES.__getitem__, stops, n=n, stream=True, with_usage=True, with_logprobs=False, tokens_in=3, headers=b"",
        kept=kept, start=None if start is None else read(start)[1], opening=b"",
    )  # fmt: skip
    page.listener = sink
    return sink


def told(events: list[bytes]) -> dict[int, dict[str, Any]]:
    """What a client makes of events, by choice."""
    found: dict[int, dict[str, Any]] = {}
    for event in events:
        data = next(line[6:] for line in event.split(b"\n") if line.startswith(b"data: "))
        if data == b"[DONE]":
            continue
        body = json.loads(data)
        for choice in body["choices"]:
            new = {"content": "", "thoughts": "", "calls": [], "reasons": []}
            one, delta = found.setdefault(choice["index"], new), choice["delta"]
            one["content"] += delta.get("content", "")
            one["thoughts"] += delta.get("reasoning_content", "")
            one["reasons"] += [choice["finish_reason"]] if choice["finish_reason"] else []
            for call in delta.get("tool_calls", ()):
                if "id" in call:
                    assert call["index"] == len(one["calls"]), "no call begins twice"
                    one["calls"].append([call["id"], call["function"]["name"], ""])
                one["calls"][call["index"]][2] += call["function"]["arguments"]
        if body["usage"]:
            found[-1] = body["usage"]
    return found


SCRIPTS = st.integers(1, 2).flatmap(
    lambda n: st.tuples(
        st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, len(PIECES) - 1)), max_size=30),
        st.sampled_from([(), ("END",)]),
    )
)  # fmt: skip
CALLED = [(0, piece) for piece in (0, 5, 1, 3, 4, 5, 14, 5, 6, 7, 5, 9, 10, 11, 12, 12, 5, 13, 5, 8, 9, 10, 12, 12, 13)]


@settings(max_examples=150)
@given(SCRIPTS | st.just((1, CALLED, ())), st.integers(0, 60), st.data())
def test_a_stream_cut_anywhere_and_resumed_is_the_stream_that_was_not_cut(
    drawn: tuple[int, list[tuple[int, int]], tuple[str, ...]], slow_from: int, data: st.DataObject
) -> None:
    n, script, stops = drawn
    whole = Page()
    feed(sink_on(whole, n, stops), script, n)
    wanted = told(whole.events)
    first = Page(slow_from)
    feed(sink_on(first, n, stops), script, n)
    first.read()
    assert told(first.events) == wanted
    events = [event for event in first.events if b"id: " in event]
    cut = data.draw(st.integers(1, len(events)), label="events that arrived")
    rest = Page(data.draw(st.integers(0, 60), label="slow from"))
    feed(sink_on(rest, n, stops, id_of(events[cut - 1])), script, n)
    rest.read()
    assert rest.answered is None
    assert rest.ended
    assert told([*events[:cut], *rest.events]) == wanted


def test_what_a_model_thought_and_called_is_in_its_place() -> None:
    page = Page()
    feed(sink_on(page, 1), CALLED, 1)
    found = told(page.events)
    assert (found[0]["content"], found[0]["thoughts"]) == ("text", "hm")
    assert [call[1:] for call in found[0]["calls"]] == [["f", '{"a": 1}'], ["f", "{}"]]
    assert found[-1]["completion_tokens_details"] == {"reasoning_tokens": 5}
