from __future__ import annotations

import math
from random import Random
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.policy.suspicion import Suspicion, deviations

GAP_S, FLOOR_S, PHI = 0.025, 0.075, 8.0


def watched(gaps: list[float]) -> tuple[Suspicion, float]:
    """A suspicion that has heard messages with these gaps, and the time of the last one."""
    suspicion, now = Suspicion(0.0, GAP_S, FLOOR_S, PHI), 0.0
    for gap in gaps:
        now += gap
        suspicion.heard(now)
    return suspicion, now


def test_a_regular_peer_is_suspected_after_the_floor_and_not_before():
    suspicion, now = watched([GAP_S] * 200)
    assert suspicion.threshold_s == FLOOR_S
    assert not suspicion.ask(now + FLOOR_S - 1e-6)
    assert suspicion.ask(now + FLOOR_S + 1e-6)


@given(st.lists(st.floats(0.0001, 0.2), max_size=200), st.floats(0, 0.2))
def test_nobody_is_suspected_before_the_floor(gaps, silence):
    suspicion, now = watched(gaps)
    assert suspicion.threshold_s >= FLOOR_S
    if silence < FLOOR_S:
        assert not suspicion.ask(now + silence)


@given(st.lists(st.floats(0.001, 0.2), max_size=200))
def test_suspicion_comes_exactly_at_the_threshold(gaps):
    suspicion, now = watched(gaps)
    assert not suspicion.ask(now + suspicion.threshold_s * 0.999)
    assert suspicion.ask(now + suspicion.threshold_s * 1.001)


def test_jitter_raises_the_threshold():
    rng = Random(1)
    steady, _ = watched([GAP_S] * 200)
    shaky, _ = watched([rng.uniform(0.001, 0.1) for _ in range(200)])
    assert shaky.threshold_s > 2 * steady.threshold_s


def test_a_peer_with_jitter_is_hardly_ever_suspected_wrongly():
    rng, suspicion, now, wrong = Random(2), Suspicion(0.0, GAP_S, FLOOR_S, PHI), 0.0, 0
    for _ in range(20_000):
        gap = abs(rng.gauss(0.05, 0.02))
        wrong += suspicion.ask(now + gap)
        now += gap
        suspicion.heard(now)
    assert wrong <= 2


def test_the_first_messages_are_not_held_against_a_new_peer():
    suspicion = Suspicion(0.0, GAP_S, FLOOR_S, PHI)
    assert suspicion.threshold_s >= FLOOR_S
    assert not suspicion.ask(FLOOR_S)


def test_silence_before_anything_was_expected_says_nothing():
    suspicion, now = watched([GAP_S] * 100)
    suspicion.expect(now + 60.0)
    assert not suspicion.ask(now + 60.0 + FLOOR_S / 2)
    assert suspicion.silence_s(now + 60.0) == 0.0


def test_the_lateness_of_the_observer_is_not_the_peers():
    suspicion, now = watched([GAP_S] * 100)
    suspicion.excuse(1.0)
    assert not suspicion.ask(now + 1.0 + FLOOR_S / 2)
    assert suspicion.ask(now + 1.0 + FLOOR_S * 2)


@pytest.mark.parametrize("phi", [1.0, 2.0, 4.0, 8.0, 12.0])
def test_phi_becomes_the_deviations_of_that_probability(phi):
    assert deviations(phi) == pytest.approx(NormalDist().inv_cdf(1 - 10**-phi), rel=1e-4)


def test_the_highest_phi_is_still_a_number():
    z = deviations(32.0)
    assert 0.5 * math.erfc(z / math.sqrt(2)) == pytest.approx(1e-32, rel=1e-6)
