"""A worker that is asked what has a known answer, in virtual time."""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from collections.abc import Sequence
from random import Random

from cordee.domain.call import Call, Task
from cordee.domain.chunk import Finish
from cordee.domain.replica import Capacity, Load, ReplicaKind
from cordee.gateway.health.canary import Canary
from cordee.gateway.health.visit import Examiner
from cordee.memory.clock import VirtualClock
from cordee.policy.breaker import Breaker, BreakerRules
from cordee.policy.canary import ORACLE, TOKENS, CanaryRules, Known, Said
from cordee.policy.oracle import token_at
from cordee.policy.route import Replica
from cordee.ports import Receiver

RULES = CanaryRules(interval_s=15.0, timeout_s=2.0, dead_s=20.0)


class Link:
    """A worker that answers at once what `says` says, or holds what it was asked."""

    def __init__(self) -> None:
        self.lies = False
        self.holds = False
        self.refuses = False
        self.asked: list[Call] = []
        self.held: list[Receiver] = []
        self.abandoned: list[str] = []
        self.cancelled = 0

    def start(
        self, call: Call, attempt: int, outputs: Sequence[array[int]], done: frozenset[int], remaining_s: float,
        receiver: Receiver,
        sent: Sequence[bytes] = (),
    ) -> Link:  # fmt: skip
        self.asked.append(call)
        self.held.append(receiver)
        if self.refuses:
            receiver.busy(None)
        return self

    def answer(self) -> None:
        """Everything that is held is answered, as the oracle does."""
        asked, held = self.asked[-len(self.held) :] if self.held else [], self.held
        self.held = []
        for call, receiver in zip(asked, held, strict=True):
            assert call.work is not None
            seed = call.work.sampling.seed ^ (1 if self.lies else 0)
            receiver.accepted()
            for index in range(TOKENS):
                receiver.token(0, index, token_at(seed, index), None)
            receiver.finish(0, TOKENS, Finish.LENGTH)

    def cancel(self) -> None:
        self.cancelled += 1

    def detach(self) -> None: ...

    def abandon(self, cause: str) -> None:
        self.abandoned.append(cause)


class Bench:
    def __init__(
        self, rules: CanaryRules = RULES, model: str = ORACLE, known: Known | None = None, name: str = "w1"
    ) -> None:
        self.clock = VirtualClock()
        self.trusted: list[bool] = []
        self.failures: Counter[str] = Counter()
        self.agreed: list[dict[str, Said]] = []
        self.link = Link()
        breaker = Breaker(BreakerRules(failures=1))
        self.replica = Replica(name, ReplicaKind.LINK, Capacity(4, 4000), "f", breaker, exact=True)
        known = known or Known()
        agreed = self.agreed
        self.examiner = Examiner(
            rules, known, self.clock, Random(1), self._failed, lambda answers: agreed.append(dict(answers))
        )
        self.canary = Canary(self.examiner)
        self.canary.joined(self.replica, model, 1 << 16, self.link, self)

    def _failed(self, replica: str, reason: str) -> None:
        self.failures[reason] += 1

    def trust(self, is_trusted: bool) -> None:
        self.trusted.append(is_trusted)

    def pass_s(self, seconds: float, *, answering: bool = True, load: Load | None = None) -> None:
        """Time passes; a worker that answers does so soon. `load`: what it reports all the while, anew each time."""
        end = self.clock.now() + seconds
        while self.clock.now() < end:
            self.clock.run(until_s=min(end, self.clock.now() + 0.05))
            if load is not None:
                self.canary.load(Load(running=load.running, waiting=load.waiting, steps=load.steps))
            if answering:
                self.link.answer()


def test_a_worker_that_joins_is_used_only_once_it_has_answered_rightly():
    bench = Bench()
    assert bench.trusted == [False]
    bench.pass_s(0.2)
    assert bench.trusted == [False, True]
    assert bench.replica.mine == 0


def test_a_worker_that_joins_with_a_wrong_answer_is_not_used_until_it_is_right():
    bench = Bench()
    bench.link.lies = True
    bench.pass_s(5)
    assert bench.trusted == [False]
    assert bench.failures["wrong"] >= 5
    bench.link.lies = False
    bench.pass_s(1)
    assert bench.trusted == [False, True]


def test_two_wrong_answers_in_a_row_take_a_worker_out_within_two_intervals():
    bench = Bench()
    bench.pass_s(1)
    bench.link.lies = True
    bench.pass_s(2 * RULES.interval_s)
    assert bench.trusted == [False, True, False]
    bench.link.lies = False
    bench.pass_s(1)
    assert bench.trusted == [False, True, False, True]


def test_a_worker_that_is_well_is_asked_once_an_interval_and_each_time_something_else():
    bench = Bench()
    bench.pass_s(RULES.interval_s * 10)
    assert 9 <= len(bench.link.asked) <= 12
    assert len({call.work.sampling.seed for call in bench.link.asked if call.work}) == len(bench.link.asked)
    assert all(call.work is not None and call.work.max_tokens <= 8 for call in bench.link.asked)


def test_an_engine_that_makes_no_steps_is_out_within_the_timeout_and_what_it_had_goes_elsewhere_later():
    bench = Bench()
    bench.pass_s(1, load=Load(running=1, steps=1))
    bench.canary.load(Load(running=1, steps=2))
    bench.pass_s(RULES.timeout_s, answering=False, load=Load(running=1, steps=2))
    assert bench.trusted[-1] is False
    assert bench.link.abandoned == []
    bench.pass_s(RULES.dead_s, answering=False, load=Load(running=1, steps=2))
    assert len(bench.link.abandoned) == 1


def test_a_worker_that_joins_with_a_dead_engine_is_not_used():
    bench = Bench()
    bench.pass_s(60, answering=False, load=Load(running=1, steps=7))
    assert bench.trusted == [False]
    assert bench.failures["silent"] >= 1


def test_an_idle_engine_that_makes_no_steps_is_no_dead_one():
    bench = Bench()
    bench.pass_s(60, load=Load(steps=7))
    assert bench.trusted == [False, True]


def test_a_worker_that_is_too_busy_to_answer_but_makes_steps_is_used():
    bench = Bench()
    for step in range(100):
        bench.pass_s(0.05, answering=False, load=Load(running=4, waiting=9, steps=step))
    assert bench.trusted == [False, True]
    bench.link.answer()
    assert bench.trusted == [False, True]


def test_a_worker_that_refuses_is_asked_again_and_not_used_before_it_answers():
    bench = Bench()
    bench.canary.left()
    bench.trusted.clear()
    bench.link.refuses = True
    bench.canary.joined(bench.replica, ORACLE, 1 << 16, bench.link, bench)
    bench.pass_s(3, answering=False)
    assert bench.trusted == [False]
    assert bench.failures["unanswered"] >= 2
    assert bench.replica.mine <= 1, "a refused question holds a seat"


def test_a_link_that_goes_down_ends_the_visit():
    bench = Bench()
    bench.canary.left()
    assert bench.link.cancelled == 1
    bench.pass_s(60, answering=False)
    assert len(bench.link.asked) == 1
    assert bench.trusted == [False]


def test_a_question_that_is_out_when_its_worker_goes_gives_its_seat_back():
    bench = Bench()
    assert bench.replica.mine == 1
    bench.canary.left()
    assert bench.replica.mine == 0
    bench.canary.joined(bench.replica, ORACLE, 1 << 16, bench.link, bench)
    assert bench.replica.mine == 1
    bench.link.held = bench.link.held[-1:]
    bench.pass_s(0.2)
    assert bench.replica.mine == 0


def test_switched_off_it_asks_nothing_and_trusts():
    bench = Bench(CanaryRules(interval_s=0))
    bench.pass_s(60)
    assert bench.trusted == [True]
    assert bench.link.asked == []


def test_switched_off_by_a_reload_it_trusts_again():
    bench = Bench()
    bench.link.lies = True
    bench.pass_s(1)
    bench.examiner.rules = CanaryRules(interval_s=0)
    bench.pass_s(1)
    assert bench.trusted == [False, True]
    asked = len(bench.link.asked)
    bench.pass_s(60)
    assert len(bench.link.asked) == asked


def test_an_open_breaker_is_tried_by_a_question_as_soon_as_it_may_be():
    bench = Bench()
    bench.pass_s(1)
    bench.replica.breaker.failed(bench.clock.now(), 0.5)
    assert not bench.replica.breaker.is_closed
    bench.pass_s(2)
    assert bench.replica.breaker.is_closed
    bench.replica.breaker.failed(bench.clock.now(), 0.5)
    bench.link.lies = True
    bench.pass_s(2)
    assert not bench.replica.breaker.is_closed


def test_what_two_workers_of_a_model_agree_on_is_told():
    known = Known()
    first, second = Bench(model="m", known=known), Bench(model="m", known=known, name="w2")
    first.pass_s(0.2)
    assert first.trusted == [False, True]
    second.pass_s(0.2)
    assert second.agreed == [{"f": tuple(token_at(0, i) for i in range(TOKENS))}]
    third = Bench(model="m", known=known, name="w3")
    third.link.lies = True
    third.pass_s(1)
    assert third.trusted == [False]


def test_a_worker_that_makes_vectors_is_asked_for_one_and_held_to_it():
    """What it said first counts: a worker alone is taken at its word."""
    bench = Bench(model="reader")
    bench.canary.joined(bench.replica, "reader", 1 << 16, bench.link, bench, Task.EMBED)
    right, wrong = struct.pack("<2f", 1.0, 0.0), struct.pack("<2f", 0.0, 1.0)
    for vector, trusted in ((right, True), (wrong, True), (wrong, False)):  # one wrong answer is asked about again
        call, receiver = bench.link.asked[-1], bench.link.held[-1]
        assert call.work is not None
        assert (call.work.task, len(call.work.items), len(call.work.prompt)) == (Task.EMBED, 1, 0)
        receiver.result(0, vector)
        receiver.finish(0, 0, Finish.STOP)
        assert bench.trusted[-1] is trusted
        bench.pass_s(1.2 * RULES.interval_s if vector is right else 1.0, answering=False)
