from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.policy.rate import BURST_SHARE, MINUTE_S, AtOnce, Bucket


def test_a_bucket_starts_full_and_refuses_what_goes_beyond_it():
    bucket = Bucket(0.0, 60, burst_share=0.25)
    for _ in range(15):
        assert bucket.lacks_s(0.0, 1) == 0
        bucket.take(0.0, 1)
    assert bucket.lacks_s(0.0, 1) == pytest.approx(1.0)
    assert bucket.lacks_s(1.0, 1) == 0


def test_it_says_when_enough_will_be_there():
    bucket = Bucket(0.0, 600, burst_share=1.0)
    bucket.take(0.0, 600)
    assert bucket.lacks_s(0.0, 100) == pytest.approx(10.0)
    assert bucket.reset_s(0.0) == pytest.approx(MINUTE_S)


def test_an_amount_larger_than_the_bucket_needs_it_full_and_leaves_a_debt():
    bucket = Bucket(0.0, 60, burst_share=1.0)
    assert bucket.lacks_s(0.0, 1000) == 0
    bucket.take(0.0, 100)
    assert bucket.remaining(0.0) == 0
    assert bucket.lacks_s(0.0, 1) == pytest.approx(41.0)


def test_what_is_given_back_can_be_taken_at_once_but_never_beyond_the_burst():
    bucket = Bucket(0.0, 60, burst_share=1.0)
    bucket.take(0.0, 50)
    bucket.give(0.0, 500)
    assert bucket.remaining(0.0) == 60
    assert bucket.is_unused(0.0)


def test_a_clock_that_goes_back_fills_nothing():
    bucket = Bucket(100.0, 60, burst_share=1.0)
    bucket.take(100.0, 60)
    assert bucket.remaining(40.0) == 0
    assert bucket.remaining(100.0) == 0


def test_a_new_limit_keeps_what_was_used():
    bucket = Bucket(0.0, 60, burst_share=1.0)
    bucket.take(0.0, 50)
    bucket.relimit(0.0, 100)
    assert bucket.remaining(0.0) == 50
    bucket.relimit(0.0, 40)
    assert bucket.remaining(0.0) == 0


@given(st.integers(1, 500), st.lists(st.floats(0, 5), max_size=200))
def test_no_minute_passes_more_than_its_limit_and_one_burst(limit, gaps):
    bucket, now, passed = Bucket(0.0, limit, BURST_SHARE), 0.0, []
    for gap in gaps:
        now += gap
        if bucket.lacks_s(now, 1) == 0:
            bucket.take(now, 1)
            passed.append(now)
    for start in passed:
        in_minute = sum(start <= at < start + MINUTE_S for at in passed)
        assert in_minute <= limit + bucket.burst + 1


def test_calls_at_once_are_counted_both_ways():
    meter = AtOnce(2)
    meter.take(0.0, 1)
    meter.take(0.0, 1)
    assert meter.lacks_s(0.0, 1) > 0
    meter.give(0.0, 1)
    assert meter.lacks_s(0.0, 1) == 0
    meter.give(0.0, 1)
    assert meter.is_unused(0.0)
