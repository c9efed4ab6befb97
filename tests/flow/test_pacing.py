"""What calls in flight show of their replica."""

from __future__ import annotations

from array import array

import pytest

from cordee.domain.replica import Capacity, ReplicaKind
from cordee.flow.pacing import LOOK_S, Pacer
from cordee.flow.trip import Trip
from cordee.policy.breaker import Breaker, BreakerRules
from cordee.policy.replica import Replica
from tests.flow.doubles import Running, Stage


def running(stage: Stage) -> Replica:
    """The answer of the stage is at this replica, since now."""
    replica = Replica("r", ReplicaKind.LINK, Capacity(8, 800), "f", Breaker(BreakerRules()))
    trip = Trip()
    trip.replica, trip.began_s, trip.attempts = replica, stage.clock.time, 1
    stage.answer.trip, stage.answer.running = trip, Running()
    return replica


def test_a_first_token_that_does_not_come_is_noticed():
    stage, pacer = Stage(), Pacer()
    replica = running(stage)
    for _ in range(5):
        stage.clock.time += 0.2
        pacer.look(stage.clock.time, {stage.answer})
    assert replica.pace.first_s > 0.5


def test_the_time_between_tokens_is_known_before_the_answer_ends():
    stage, pacer = Stage(), Pacer()
    replica = running(stage)
    attempt = stage.answer.began()
    for index in range(8):
        stage.clock.time += 0.05
        attempt.token(0, index, 7, None)
    pacer.look(stage.clock.time, {stage.answer})
    assert replica.pace.token_s == pytest.approx(0.05)


def test_it_looks_no_more_often_than_it_should_and_at_all_in_turn():
    stages = [Stage() for _ in range(200)]
    replicas = [running(stage) for stage in stages]
    pacer, in_flight = Pacer(), {stage.answer for stage in stages}
    now = stages[0].clock.time + 1.0
    pacer.look(now, in_flight)
    first = sum(replica.pace.firsts for replica in replicas)
    pacer.look(now + LOOK_S / 2, in_flight)
    assert sum(replica.pace.firsts for replica in replicas) == first < 200
    for step in range(1, 5):
        pacer.look(now + LOOK_S * 1.01 * step, in_flight)
    assert all(replica.pace.firsts for replica in replicas)


def test_an_answer_that_is_nowhere_says_nothing():
    stage = Stage()
    Pacer().look(1000.0, {stage.answer})
    assert stage.answer.outputs == (array("I"),)
