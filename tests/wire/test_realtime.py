"""The messages of the WebSocket, as their bytes."""

import json

import pytest

from cordee.domain.chunk import Finish
from cordee.wire import errors, realtime
from cordee.wire.errors import Invalid
from cordee.wire.realtime import CallCancel, CallCreate, CallResume, Ping, RealtimeShape
from cordee.wire.shape import Choice, Usage


def test_each_message_has_its_type():
    create = realtime.read(b'{"type":"call.create","id":"a","request":{"model":"m"},"resumable":false,"timeout_s":2.5}')
    assert isinstance(create, CallCreate)
    assert (create.id, bytes(create.request), create.resumable, create.timeout_s) == ("a", b'{"model":"m"}', False, 2.5)
    assert realtime.read(b'{"type":"call.cancel","id":"a"}') == CallCancel(id="a")
    assert realtime.read(b'{"type":"call.resume","stream":"s","position":"3.ff"}') == CallResume(
        stream="s", position="3.ff"
    )
    assert realtime.read(b'{"type":"ping"}') == Ping()


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (b"nonsense", None),
        (b"[]", None),
        (b"{}", "type"),
        (b'{"type":"call.delete"}', "type"),
        (b'{"type":"call.create","id":"a"}', "request"),
        (b'{"type":"call.create","id":"","request":{}}', "id"),
        (b'{"type":"call.create","id":"a","request":{},"model":"m"}', "model"),
        (b'{"type":"call.create","id":"a","request":{},"timeout_s":-1}', "timeout_s"),
        (b'{"type":"call.create","id":"a","request":{},"idempotency_key":"a\\nb"}', "idempotency_key"),
        (b'{"type":"call.create","id":"a","request":{},"idempotency_key":"a\\n"}', "idempotency_key"),
        (b'{"type":"call.resume","stream":"a b"}', "stream"),
        (b'{"type":"call.resume","stream":"a","position":"1\\r\\nx: y"}', "position"),
        (b'{"type":"call.cancel","id":"' + b"x" * 129 + b'"}', "id"),
    ],
)
def test_what_cannot_be_meant_names_its_parameter(message, param):
    with pytest.raises(Invalid) as caught:
        realtime.read(message)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "request_",
    [
        b'{"model":"m","n":2}',
        b' { "model" : "m", "n": 2, "stream":false}',
        b'{"stream_options":null,"model":"m","n":2,"stream":true}',
    ],
)
def test_a_request_is_streamed_with_its_usage_whatever_it_says_of_that(request_):
    message = realtime.read(b'{"type":"call.create","id":"a","request":' + request_ + b"}")
    assert isinstance(message, CallCreate)
    assert json.loads(realtime.streaming(message.request)) == {
        "model": "m", "n": 2, "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip


def test_a_request_without_anything_is_an_object_still():
    message = realtime.read(b'{"type":"call.create","id":"a","request":{}}')
    assert isinstance(message, CallCreate)
    assert json.loads(realtime.streaming(message.request))["stream"] is True


def test_a_key_that_would_vanish_with_stream_is_not_lost_in_silence():
    message = realtime.read(b'{"type":"call.create","id":"a","request":{"stream":true,"n":1,"n":2}}')
    assert isinstance(message, CallCreate)
    with pytest.raises(Invalid, match="twice"):
        realtime.streaming(message.request)


def test_an_answer_is_deltas_and_one_completion():
    shape = RealtimeShape('c"1')
    assert shape.open(0) == b""
    placed = shape.placed(shape.delta(0, 'é"', None), "s", "1.ab")
    assert json.loads(placed) == {"type": "call.delta", "id": 'c"1', "choice": 0, "text": 'é"', "position": "1.ab"}
    assert json.loads(shape.close(0, Finish.LENGTH))["finish_reason"] == "length"
    completed = json.loads(shape.usage(Usage(3, 4)))
    assert completed["type"] == "call.completed"
    assert completed["choices"] == [{"choice": 0, "finish_reason": "length"}]
    assert completed["usage"]["total_tokens"] == 7
    assert shape.placed(shape.open(0), "s", "0.0") == b""


def test_an_answer_that_was_not_streamed_is_one_completion_with_its_text():
    said = json.loads(RealtimeShape("c").whole([Choice(0, "hi", None, Finish.STOP)], Usage(1, 2)))
    assert said["choices"] == [{"choice": 0, "text": "hi", "finish_reason": "stop"}]


def test_a_failure_holds_openais_error_and_when_to_ask_again():
    error = errors.body(503, "full", None, "queue_full")
    said = json.loads(realtime.failed("c", error, b"content-type: a\r\nretry-after: 3\r\n"))
    assert said["type"] == "call.failed"
    assert said["retry_after_s"] == 3
    assert said["error"]["code"] == "queue_full"
    assert "retry_after_s" not in json.loads(realtime.failed("c", error))
    assert json.loads(realtime.wrong(error))["type"] == "error"
