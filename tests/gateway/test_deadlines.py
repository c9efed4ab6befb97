from __future__ import annotations

import pytest

from cordee.domain.call import Deadlines
from cordee.gateway.prepare import deadlines
from cordee.http.request import Request
from cordee.wire.errors import Invalid

DEFAULT = Deadlines(600.0, 120.0, 60.0)


def asked(**headers: str) -> Deadlines:
    named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return deadlines(Request(b"POST", "1.1", named, True), DEFAULT)


def test_without_headers_the_configured_deadlines_hold() -> None:
    assert asked() is DEFAULT


def test_each_deadline_has_a_header_of_its_own_and_none_outlasts_the_total() -> None:
    assert asked(x_request_timeout="10") == Deadlines(10.0, 10.0, 10.0)
    assert asked(x_cordee_first_token_timeout="2.5") == Deadlines(600.0, 2.5, 60.0)
    assert asked(x_cordee_between_tokens_timeout="1") == Deadlines(600.0, 120.0, 1.0)
    assert asked(x_request_timeout="3", x_cordee_first_token_timeout="9") == Deadlines(3.0, 3.0, 3.0)


@pytest.mark.parametrize(
    "header", ["X-Request-Timeout", "X-Cordee-First-Token-Timeout", "X-Cordee-Between-Tokens-Timeout"]
)
@pytest.mark.parametrize("value", ["", "0", "-1", "1e3", "nan", "inf", "86401", "1_0", "2, 3", "soon"])
def test_a_deadline_is_a_plain_number_of_seconds(header: str, value: str) -> None:
    with pytest.raises(Invalid) as raised:
        asked(**{header.lower(): value})
    assert (raised.value.param, raised.value.status) == (header, 400)
