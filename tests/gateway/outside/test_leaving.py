"""Whether a call may leave: a header can only tighten what the key says."""

from __future__ import annotations

import pytest

from cordee.domain.call import Sensitivity
from cordee.domain.caller import Caller
from cordee.gateway.outside import leaving
from cordee.http.request import Request
from cordee.wire.errors import Invalid


def request(**headers: bytes) -> Request:
    named = {f"x-cordee-{name.replace('_', '-')}".encode(): value for name, value in headers.items()}
    return Request(b"POST", "1.1", named, True)


@pytest.mark.parametrize(
    ("key", "header", "stays"),
    [
        (False, None, False), (True, None, True), (False, b"1", True), (False, b"true", True), (True, b"0", True),
        (False, b"0", False),
    ],
)  # fmt: skip
def test_a_key_that_must_stay_stays_whatever_its_calls_say(key, header, stays):
    asked = request() if header is None else request(local_only=header)
    assert leaving.local_only(asked, Caller("k", "t", local_only=key)) is stays


@pytest.mark.parametrize(
    ("key", "header", "found"),
    [
        (Sensitivity.INTERNAL, None, Sensitivity.INTERNAL),
        (Sensitivity.INTERNAL, b"public", Sensitivity.INTERNAL),
        (Sensitivity.INTERNAL, b"Confidential", Sensitivity.CONFIDENTIAL),
        (Sensitivity.PUBLIC, b"internal", Sensitivity.INTERNAL),
    ],
)
def test_a_call_is_at_least_as_sensitive_as_its_key(key, header, found):
    asked = request() if header is None else request(sensitivity=header)
    assert leaving.sensitivity(asked, Caller("k", "t", sensitivity=key)) is found


def test_other_values_are_the_clients_mistake():
    with pytest.raises(Invalid, match="1 or 0"):
        leaving.local_only(request(local_only=b"yes please"), Caller("k", "t"))
    with pytest.raises(Invalid, match="public, internal, confidential"):
        leaving.sensitivity(request(sensitivity=b"secret"), Caller("k", "t"))
