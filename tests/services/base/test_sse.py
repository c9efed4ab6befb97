"""Events of a stream: whole or not there, however the bytes arrive."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.services.base.door import DoorError, Streamed
from cordee.services.base.sse import Events

TEXT = b": hello\nid: a.1\ndata: one\n\ndata: two\r\ndata: more\r\n\r\nid: a.3\nretry: 5\n\nid:a.4\rdata:x\r\rdata: cut"
WHOLE = [Streamed("a.1", b"one"), Streamed("", b"two\nmore"), Streamed("a.4", b"x")]


@given(st.lists(st.integers(0, len(TEXT)), max_size=6))
def test_events_are_the_same_however_their_bytes_arrive(cuts):
    events, found = Events(1000), []
    places = [0, *sorted(cuts), len(TEXT)]
    for start, end in pairwise(places):
        found += events.feed(TEXT[start:end])
    assert found == WHOLE
    assert events.last_id == "a.4"


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 50, b"data: xxxxxxxx\n"])
def test_an_event_without_an_end_is_refused_when_it_is_too_long(piece):
    events = Events(100)
    assert events.feed(piece) == []
    with pytest.raises(DoorError, match="100 bytes"):
        events.feed(piece * 20)
