"""Chat over gRPC: requests as bodies of chat completions, answers as events; and that the generated code is of today."""

import json
import subprocess
from pathlib import Path

import pytest

from cordee.domain.chunk import Finish
from cordee.wire import errors
from cordee.wire.errors import Invalid
from cordee.wire.shape import Choice, Usage
from cordee.wire.v1.chat_pb2 import ChatAnswer, ChatEvent, ChatRequest, Message, Priority
from cordee.wire.v1.shape import PARAMETERS, EventShape, body_of, error_of, events_of, headers_of

ROOT = Path(__file__).parents[3]


def test_a_request_says_only_what_was_set():
    request = ChatRequest(model="m", messages=[Message(role="user", content="hi")], temperature=0.0, seed=0, stop=["x"])
    assert json.loads(body_of(request, stream=False)) == {
        "model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.0, "seed": 0, "stop": ["x"],
    }  # fmt: skip
    assert json.loads(body_of(request, stream=True))["stream_options"] == {"include_usage": True}


def test_every_parameter_is_a_field():
    assert set(PARAMETERS) <= {field.name for field in ChatRequest.DESCRIPTOR.fields}


def test_priority_resumability_and_idempotency_go_into_headers():
    request = ChatRequest(priority=Priority.PRIORITY_BATCH, resumable=False, idempotency_key="k")
    assert headers_of(request) == {
        b"x-cordee-priority": b"batch", b"x-cordee-resumable": b"0", b"idempotency-key": b"k",
    }  # fmt: skip
    assert headers_of(ChatRequest()) == {}


@pytest.mark.parametrize(("request_", "param"), [
    (ChatRequest(idempotency_key="a\r\nb"), "idempotency_key"), (ChatRequest(idempotency_key="é"), "idempotency_key"),
    (ChatRequest.FromString(b"\x80\x01\x63"), "priority"),
])  # fmt: skip
def test_what_cannot_go_into_a_header_is_refused(request_, param):
    with pytest.raises(Invalid) as caught:
        headers_of(request_)
    assert caught.value.param == param


def test_an_event_gets_its_position_without_being_read_again():
    shape = EventShape("c", "m")
    event = ChatEvent.FromString(shape.placed(shape.delta(1, "é", None), "c", "0-1.ab"))
    assert (event.delta.choice, event.delta.text, event.position) == (1, "é", "0-1.ab")
    assert ChatEvent.FromString(shape.close(1, Finish.STOP)).finished.reason == "stop"
    assert ChatEvent.FromString(shape.usage(Usage(3, 4))).usage.completion_tokens == 4
    assert shape.placed(shape.open(0), "c", "0.0") == b""


def test_a_whole_answer_can_be_told_as_events():
    whole = EventShape("c", "m").whole([Choice(0, "hi", None, Finish.LENGTH)], Usage(1, 2))
    answer = ChatAnswer.FromString(whole)
    assert (answer.call_id, answer.model, answer.choices[0].text, answer.usage.prompt_tokens) == ("c", "m", "hi", 1)
    delta, finished, usage = map(ChatEvent.FromString, events_of(whole))
    assert (delta.delta.text, finished.finished.reason, usage.usage.completion_tokens) == ("hi", "length", 2)


def test_an_error_is_openais_error():
    error = error_of(404, errors.body(404, "no such model", "model", "model_not_found"))
    assert (error.message, error.param, error.code, error.http_status) == (
        "no such model",
        "model",
        "model_not_found",
        404,
    )
    assert error.type == "invalid_request_error"


def test_the_generated_code_is_that_of_the_proto_file(tmp_path):
    subprocess.run([ROOT / "scripts" / "proto", tmp_path], check=True, timeout=60)
    for name in ("chat_pb2.py", "chat_pb2.pyi"):
        assert (tmp_path / name).read_text() == (ROOT / "src/cordee/wire/v1" / name).read_text(), "run scripts/proto"
