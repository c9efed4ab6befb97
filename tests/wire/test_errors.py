from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.domain.outcome import Why
from cordee.wire import errors

ERROR_BYTES_MAX = 4096


def test_every_reason_has_a_status_and_every_client_error_a_type():
    assert set(errors.STATUS) == set(Why)
    for status in errors.STATUS.values():
        assert status in errors.TYPES or status >= 500


@given(st.text(max_size=5000), st.none() | st.text(max_size=64), st.sampled_from(sorted(errors.TYPES)))
def test_an_error_is_one_small_json_object_whatever_it_quotes(message, param, status):
    body = errors.body(status, message, param)
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert len(error["message"]) <= errors.MESSAGE_CHARS_MAX
    assert len(body) < ERROR_BYTES_MAX
    assert b"\n" not in body


@pytest.mark.parametrize(
    ("seconds", "line"),
    [(None, b""), (0.0, b"retry-after: 1\r\n"), (0.2, b"retry-after: 1\r\n"), (1.0, b"retry-after: 1\r\n"), (1.2, b"retry-after: 2\r\n")],
)  # fmt: skip
def test_retry_after_is_whole_seconds_and_never_too_early(seconds, line):
    assert errors.retry_after(seconds) == line


def test_a_trouble_of_the_server_is_no_fault_of_the_client():
    assert json.loads(errors.body(503, "x"))["error"]["type"] == "server_error"
