"""A stream cut anywhere and resumed from its last event is the stream that was not cut: every text, finish and role once."""

from __future__ import annotations

import json
import re
from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.domain.kept import KeptBytes, KeptCall, KeptTokens, packed
from cordee.flow.facts import Fact
from cordee.flow.mailbox import Mailbox
from cordee.gateway.kept.call import Kept
from cordee.gateway.kept.sink import KeptSink
from cordee.http.exchange import Answer, Listener
from cordee.memory.journal import MemoryJournal
from cordee.wire.chat import ChatShape
from cordee.wire.position import read

PIECES = [b"a", b"b", b"\xc3", b"\xa9", b"END", b"E", b"\xf0\x9f", b"\x98\x80", b" "]
CALL = KeptCall("ab" * 16, "acme", "k", "/v1/chat/completions", "d", b"{}", True, 1, 1, "m", "fp", "g")


class Held(Kept):
    """Remembers what would be told to the journal."""

    __slots__ = ("completed",)
    completed: list[KeptTokens | KeptBytes | None]

    def complete(self, answer: KeptTokens | KeptBytes | None) -> None:
        self.completed = [answer]


class Page:
    """An Outlet that remembers. `slow_from`: the client reads nothing more from that event on, until `read`."""

    def __init__(self, slow_from: int = 1 << 30) -> None:
        self.listener: Listener | None = None
        self.events: list[bytes] = []
        self.answered: Answer | None = None
        self.ended = False
        self.headers = b""
        self._slow_from = slow_from

    @property
    def is_open(self) -> bool:
        return not self.ended and self.answered is None

    @property
    def is_slow(self) -> bool:
        return len(self.events) >= self._slow_from

    def read(self) -> None:
        self._slow_from = 1 << 30
        if self.listener is not None:
            self.listener.writable()

    def answer(self, answer: Answer) -> None:
        self.answered = answer

    def begin(self, status: int, headers: bytes) -> None:
        self.headers = headers

    def write(self, data: bytes) -> None:
        self.events += re.findall(rb".*?\n\n", data, re.DOTALL)

    def end(self, data: bytes = b"") -> None:
        self.write(data)
        self.ended = True

    def fail(self, answer: Answer, event: bytes) -> None:
        self.end(event)

    def abort(self) -> None:
        self.ended = True


def sink_on(
    page: Page, n: int, stops: tuple[str, ...] = (), start: str | None = None, *, usage: bool = True, logprobs: bool = False,
    stream: bool = True,
) -> KeptSink:  # fmt: skip
    journal = MemoryJournal(lambda: 0.0, 10, 1 << 20)
    kept = Held(CALL, "", journal, 1.0, lambda what: what.close(), page, resumes=start is not None)
    position = read(start)[1] if start is not None else None
    box: Mailbox[Fact] = Mailbox()
    sink = KeptSink(
        page, box, ChatShape("chatcmpl-1", "m", 1, "fp", with_usage=usage), PIECES.__getitem__, stops, n=n, stream=stream,
        with_usage=usage, with_logprobs=logprobs, tokens_in=3, headers=b"", kept=kept, start=position,
        opening=b"retry: 5\n",
    )  # fmt: skip
    page.listener = sink
    return sink


def feed(sink: KeptSink, script: list[tuple[int, int]], n: int, *, logprobs: bool = False) -> None:
    """(choice, token) in this order; then every choice that did not stop by itself is complete."""
    done: set[int] = set()
    for choice, token in script:
        if choice not in done and sink.token(choice, token, TokenLogprobs(-1.0) if logprobs else None):
            done.add(choice)
    for choice in range(n):
        if choice not in done:
            sink.finish(choice, Finish.LENGTH)
    sink.complete()


def told(events: list[bytes]) -> dict[str, Any]:
    """What a client makes of events: texts, roles and finishes by choice, usages, and the end."""
    found: dict[str, Any] = {"text": {}, "roles": [], "ends": [], "usages": 0, "done": 0, "logprobs": 0}
    for event in events:
        data = next(line[6:] for line in event.split(b"\n") if line.startswith(b"data: "))
        if data == b"[DONE]":
            found["done"] += 1
            continue
        body = json.loads(data)
        found["usages"] += body.get("usage") is not None
        for choice in body["choices"]:
            at = choice["index"]
            found["text"][at] = found["text"].get(at, "") + (choice["delta"].get("content") or "")
            found["logprobs"] += len((choice["logprobs"] or {}).get("content", ()))
            if "role" in choice["delta"]:
                found["roles"].append(at)
            if choice["finish_reason"]:
                found["ends"].append((at, choice["finish_reason"]))
    found["roles"].sort()
    found["ends"].sort()
    return found


def id_of(event: bytes) -> str:
    return next(line[4:].decode() for line in event.split(b"\n") if line.startswith(b"id: "))


SCRIPTS = st.integers(1, 3).flatmap(
    lambda n: st.tuples(
        st.just(n),
        st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, len(PIECES) - 1)), max_size=25),
        st.sampled_from([(), ("END",), ("ENDa", "b ")]),
    )
)


@settings(max_examples=200)
@given(SCRIPTS, st.booleans(), st.integers(0, 60), st.data())
def test_a_stream_cut_anywhere_and_resumed_is_the_stream_that_was_not_cut(
    drawn: tuple[int, list[tuple[int, int]], tuple[str, ...]], logprobs: bool, slow_from: int, data: st.DataObject
) -> None:
    n, script, stops = drawn
    whole = Page()
    feed(sink_on(whole, n, stops, logprobs=logprobs), script, n, logprobs=logprobs)
    wanted = told(whole.events)
    first = Page(slow_from)
    feed(sink_on(first, n, stops, logprobs=logprobs), script, n, logprobs=logprobs)
    first.read()
    assert told(first.events) == wanted
    events = [event for event in first.events if b"id: " in event]
    cut = data.draw(st.integers(1, len(events)), label="events that arrived")
    rest = Page(data.draw(st.integers(0, 60), label="slow from"))
    other = sorted(script, key=lambda row: row[0]) if data.draw(st.booleans(), label="another interleaving") else script
    feed(sink_on(rest, n, stops, id_of(events[cut - 1]), logprobs=logprobs), other, n, logprobs=logprobs)
    rest.read()
    assert rest.answered is None
    assert rest.ended
    assert told([*events[:cut], *rest.events]) == wanted


def test_the_retry_hint_comes_once_and_every_event_has_an_id() -> None:
    page = Page()
    feed(sink_on(page, 1), [(0, 0), (0, 1)], 1)
    assert b"".join(page.events).count(b"retry: ") == 1
    assert page.events[0].startswith(b"retry: 5\nid: ")
    assert all(b"id: " in event for event in page.events[:-1])


def test_a_position_with_another_hash_is_unknown_or_diverged_and_nothing_leaves() -> None:
    page = Page()
    feed(sink_on(page, 1), [(0, 0), (0, 1), (0, 0)], 1)
    place = id_of(page.events[2])
    forged = Page()
    sink = sink_on(forged, 1, start=place[:-4] + "0000")
    verdicts: list[str] = []
    sink.kept.verdict = verdicts.append
    feed(sink, [(0, 0), (0, 1), (0, 0)], 1)
    assert forged.answered is not None
    assert forged.answered.status == 409  # it was made again, so nobody can say who is wrong
    assert forged.events == []
    assert verdicts == ["diverged"]
    journaled = Page()
    sink = sink_on(journaled, 1, start=place[:-4] + "0000")
    sink.kept.is_journaled = True
    feed(sink, [(0, 0), (0, 1), (0, 0)], 1)
    assert journaled.answered is not None
    assert journaled.answered.status == 404


def test_a_generation_that_comes_out_different_is_never_joined() -> None:
    page = Page()
    feed(sink_on(page, 1), [(0, 0), (0, 1), (0, 0)], 1)
    other = Page()
    feed(sink_on(other, 1, start=id_of(page.events[2])), [(0, 0), (0, 0), (0, 0)], 1)
    assert other.answered is not None
    assert other.answered.status == 409
    assert json.loads(other.answered.body)["error"]["code"] == "stream_diverged"
    assert other.events == []


def test_a_position_behind_the_end_is_refused() -> None:
    page = Page()
    feed(sink_on(page, 1), [(0, 0), (0, 1), (0, 0)], 1)
    short = Page()
    feed(sink_on(short, 1, start=id_of(page.events[3])), [(0, 0)], 1)
    assert short.answered is not None
    assert short.answered.status == 409
    assert short.events == []


def test_an_answer_that_goes_on_where_the_clients_had_ended_is_never_joined() -> None:
    """The hash is over tokens: it cannot tell an answer that stopped from one that goes on."""
    page = Page()
    feed(sink_on(page, 2), [(0, 0), (0, 1), (1, 0)], 2)
    place = next(id_of(event) for event in page.events if re.search(rb"id: \w+\.2e-", event))
    longer = Page()
    feed(sink_on(longer, 2, start=place), [(0, 0), (0, 1), (0, 4), (1, 0)], 2)
    assert longer.answered is not None
    assert longer.answered.status == 409
    assert longer.events == []


def test_what_is_told_to_the_journal_makes_the_same_answer() -> None:
    sink = sink_on(Page(), 2)
    feed(sink, [(0, 0), (1, 4), (0, 1)], 2)
    assert isinstance(sink.kept, Held)
    assert sink.kept.completed == [KeptTokens((packed(array("I", [0, 1])), packed(array("I", [4]))), (2, 2))]


def test_text_of_another_server_cannot_be_resumed_from_or_kept() -> None:
    page = Page()
    sink = sink_on(page, 1)
    sink.text(0, "hello", Finish.STOP)
    sink.complete()
    assert isinstance(sink.kept, Held)
    assert sink.kept.completed == [None]
    with pytest.raises(ValueError, match="not the id"):
        read(id_of(page.events[1]))


def test_a_whole_answer_has_no_positions() -> None:
    page = Page()
    feed(sink_on(page, 1, stream=False), [(0, 0), (0, 1)], 1)
    assert page.answered is not None
    assert json.loads(page.answered.body)["choices"][0]["message"]["content"] == "ab"
