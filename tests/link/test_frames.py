from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.domain.replica import Load
from cordee.link import frames
from cordee.link.frames import FRAME_BYTES_MAX, KINDS, FrameError, Splitter

U16, U32 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)
PERCENT = st.integers(0, 255)
LOADS = st.builds(Load, U32, U32, U32, U32, PERCENT, PERCENT, PERCENT, U32)
ROWS = st.lists(st.tuples(U32, U16, st.integers(0, 5), U32, U32), max_size=20)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
SUBMITS = st.builds(
    frames.Submit, call=st.text(max_size=20), attempt=st.integers(1, 9), prompt=st.binary(max_size=64),
    choices=st.lists(st.integers(0, 127), max_size=4), outputs=st.lists(st.binary(max_size=16), max_size=4),
    max_tokens=U32, remaining_s=FINITE, priority=st.integers(0, 2), tenant=st.text(max_size=8), temperature=FINITE,
    top_k=U32, top_p=FINITE, min_p=FINITE, repetition_penalty=FINITE, presence_penalty=FINITE, frequency_penalty=FINITE,
    logit_bias=st.lists(st.tuples(U32, FINITE), max_size=4), seed=st.integers(0, 2**63 - 1),
    logprobs=st.none() | st.integers(0, 20), min_tokens=U32, ignore_eos=st.booleans(),
    keep=st.text(max_size=20), adapter=st.text(max_size=8), cache_salt=st.text(max_size=8), task=st.text(max_size=8),
    grammar=st.none() | st.tuples(st.text(max_size=8), st.text(max_size=20)),
    items=st.lists(st.tuples(st.binary(max_size=16), U32), max_size=3),
)  # fmt: skip
WORKERS = st.builds(
    frames.WorkerHello, protocol=U32, worker=st.text(), pid=U32, model=st.text(), fingerprint=st.text(), context=U32,
    vocabulary=U32, exact=st.booleans(), capacity_sequences=U32, capacity_tokens=U32, beat_s=FINITE,
    tasks=st.lists(st.text(max_size=8), max_size=3), adapters=st.lists(st.text(max_size=8), max_size=3),
)  # fmt: skip
REFUSALS = st.builds(frames.Refuse, st.booleans(), st.text(), st.none() | FINITE, st.booleans())
ATTACHES = st.builds(frames.Attach, call=st.text(max_size=20), tenant=st.text(max_size=8), choices=U32)
STREAMS = st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.binary(max_size=200)), max_size=12)


def only(data: bytes) -> tuple[int, bytes]:
    """The one frame in these bytes."""
    ((kind, payload),) = Splitter().feed(data)
    return kind, bytes(payload)


def packed(rows: list[tuple[int, int, int, int, int]]) -> bytes:
    return b"".join(frames.ROW.pack(*row) for row in rows)


@given(U32, SUBMITS)
def test_a_submit_comes_out_as_it_went_in(handle, submit):
    kind, payload = only(frames.submit(handle, submit))
    assert (kind, frames.read_handle(payload), frames.read_submit(payload)) == (frames.SUBMIT, handle, submit)


@given(U32, ATTACHES)
def test_an_attach_comes_out_as_it_went_in(handle, attach):
    kind, payload = only(frames.attach(handle, attach))
    assert (kind, frames.read_handle(payload), frames.read_attach(payload)) == (frames.ATTACH, handle, attach)


@given(LOADS, ROWS)
def test_a_step_comes_out_as_it_went_in(load, rows):
    kind, payload = only(frames.step(load, packed(rows)))
    assert (kind, frames.read_load(payload), list(frames.read_rows(payload))) == (frames.STEP, load, rows)


@given(WORKERS)
def test_a_worker_is_introduced_as_it_is(hello):
    kind, payload = only(frames.hello(hello))
    assert (kind, frames.read_worker_hello(payload)) == (frames.HELLO, hello)


@given(U32, REFUSALS)
def test_a_refusal_comes_out_as_it_went_in(handle, refuse):
    kind, payload = only(frames.refuse(handle, refuse))
    assert (kind, frames.read_handle(payload), frames.read_refuse(payload)) == (frames.REFUSE, handle, refuse)


@given(st.lists(st.tuples(U32, U16, U32, FINITE, st.lists(st.tuples(U32, FINITE), max_size=3)), max_size=5))
def test_logprobs_come_out_as_they_went_in(rows):
    kind, payload = only(frames.logprobs(rows))
    assert (kind, frames.read_logprobs(payload)) == (frames.LOGPROBS, rows)


@given(U32, LOADS)
def test_the_small_frames_come_out_as_they_went_in(handle, load):
    kind, payload = only(frames.cancel(handle))
    assert (kind, frames.read_handle(payload)) == (frames.CANCEL, handle)
    kind, payload = only(frames.detach(handle))
    assert (kind, frames.read_handle(payload)) == (frames.DETACH, handle)
    kind, payload = only(frames.ack(handle))
    assert (kind, frames.read_handle(payload)) == (frames.ACK, handle)
    kind, payload = only(frames.beat(load))
    assert (kind, frames.read_load(payload)) == (frames.BEAT, load)
    assert only(frames.drain()) == (frames.DRAIN, b"")
    greeting = frames.GatewayHello(protocol=1, gateway="web-1", pid=7)
    kind, payload = only(frames.hello(greeting))
    assert (kind, frames.read_gateway_hello(payload)) == (frames.HELLO, greeting)


@given(STREAMS, st.data())
def test_any_split_of_the_bytes_gives_the_same_frames(stream, data):
    sent = b"".join(frames.frame(kind, payload) for kind, payload in stream)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=20)))
    splitter, received = Splitter(), []
    for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        received += [(kind, bytes(payload)) for kind, payload in splitter.feed(sent[start:end])]
    assert received == stream


def test_a_frame_byte_by_byte_is_whole_with_its_last_byte():
    splitter, data = Splitter(), frames.frame(frames.STEP, b"x" * 40)
    for at in range(len(data) - 1):
        assert splitter.feed(data[at : at + 1]) == []
    ((kind, payload),) = splitter.feed(data[-1:])
    assert (kind, bytes(payload)) == (frames.STEP, b"x" * 40)


@pytest.mark.parametrize(
    "garbage",
    [
        struct.pack("<IB", 0, frames.BEAT), struct.pack("<IB", FRAME_BYTES_MAX + 1, frames.BEAT),
        struct.pack("<IB", 2**32 - 1, frames.BEAT), struct.pack("<IB", 5, 0), struct.pack("<IB", 5, max(KINDS) + 1),
        struct.pack("<IB", 5, 255), b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"\0" * 64, b"\xff" * 64,
    ],
)  # fmt: skip
def test_what_is_no_frame_is_refused_at_its_head(garbage):
    with pytest.raises(FrameError):
        Splitter().feed(garbage[: frames.HEAD_BYTES])


@given(STREAMS, st.binary(min_size=5, max_size=5).filter(lambda head: head[4] not in KINDS))
def test_garbage_behind_good_frames_is_refused(stream, garbage):
    sent = b"".join(frames.frame(kind, payload) for kind, payload in stream)
    with pytest.raises(FrameError):
        Splitter().feed(sent + garbage)


@given(st.binary(max_size=400))
def test_the_splitter_knows_no_other_trouble_than_a_frame_error(data):
    try:
        found = Splitter().feed(data)
    except FrameError:
        return
    assert all(kind in KINDS for kind, _ in found)


@given(st.binary(max_size=60))
def test_a_payload_that_is_none_raises_what_both_ends_of_a_link_catch(payload):
    for read in (
        frames.read_load, frames.read_handle, frames.read_worker_hello, frames.read_gateway_hello, frames.read_submit,
        frames.read_attach, frames.read_refuse, frames.read_logprobs, lambda data: list(frames.read_rows(data)),
    ):  # fmt: skip
        try:
            read(payload)
        except (FrameError, msgspec.MsgspecError, struct.error, ValueError):
            continue


@given(st.lists(st.tuples(U32, U32), max_size=5), U32, U32, st.binary(max_size=64))
def test_what_was_computed_comes_back_as_it_was_sent(rows: list[tuple[int, int]], handle: int, choice: int, raw: bytes):
    kind, payload = only(frames.cached(rows))
    assert (kind, list(frames.read_cached(payload))) == (frames.CACHED, rows)
    floats = raw[: len(raw) // frames.FLOAT_BYTES * frames.FLOAT_BYTES]
    kind, payload = only(frames.result(handle, choice, floats))
    assert (kind, frames.read_result(payload)) == (frames.RESULT, (handle, choice, floats))


def test_a_result_that_is_no_number_of_floats_is_no_frame_of_ours():
    with pytest.raises(FrameError, match="5 bytes"):
        frames.read_result(frames.result(1, 0, b"12345")[frames.HEAD_BYTES :])
