"""A request that goes in a circle is refused; whatever else a client's headers say stays here."""

from __future__ import annotations

import pytest

from cordee.gateway.outside.hops import HOPS_MAX, Hops
from cordee.wire.errors import Invalid

HOUSE = Hops("aaaa")


def test_a_request_of_a_client_carries_nothing_on_but_its_trace():
    assert HOUSE.sent_on({b"authorization": b"Bearer x", b"cookie": b"a=b", b"x-forwarded-for": b"1.2.3.4"}) == ()
    trace = {b"traceparent": b"00-1-2-01", b"tracestate": b"a=1"}
    assert HOUSE.sent_on({**trace, b"x-api-key": b"k"}) == tuple(trace.items())


def test_every_gateway_on_the_way_is_counted_and_named():
    assert HOUSE.sent_on({b"x-cordee-hops": b"1", b"x-cordee-via": b"bbbb"}) == (
        (b"x-cordee-hops", b"2"), (b"x-cordee-via", b"bbbb, aaaa"),
    )  # fmt: skip


@pytest.mark.parametrize("via", [b"aaaa", b"bbbb,aaaa", b"bbbb, aaaa, cccc"])
def test_what_comes_back_to_its_own_installation_is_refused(via):
    with pytest.raises(Invalid) as refused:
        HOUSE.sent_on({b"x-cordee-hops": b"1", b"x-cordee-via": via})
    assert refused.value.status == 508


def test_too_many_hops_are_a_circle_whoever_they_were():
    HOUSE.sent_on({b"x-cordee-hops": b"%d" % (HOPS_MAX - 1)})
    with pytest.raises(Invalid) as refused:
        HOUSE.sent_on({b"x-cordee-hops": b"%d" % HOPS_MAX})
    assert refused.value.status == 508


@pytest.mark.parametrize(
    "headers", [{b"x-cordee-hops": b"-1"}, {b"x-cordee-hops": b"9" * 50}, {b"x-cordee-via": b"x" * 1000}]
)
def test_hops_that_are_none_are_the_clients_mistake(headers):
    with pytest.raises(Invalid) as refused:
        HOUSE.sent_on(headers)
    assert (refused.value.status, refused.value.param) == (400, "X-Cordee-Hops")
