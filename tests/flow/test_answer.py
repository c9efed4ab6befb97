"""Every token once and in order, whatever workers do."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cordee.domain.call import Deadlines
from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.flow.answer import Attempt
from cordee.flow.facts import DONE, Broken, Expired
from tests.flow.doubles import Running, Stage


def tell(attempt: Attempt, *tokens: int, choice: int = 0, start: int = 0) -> None:
    for index, token in enumerate(tokens, start):
        attempt.token(choice, index, token, None)


def test_tokens_pass_in_order_and_the_end_is_told_once():
    stage = Stage()
    attempt = stage.answer.began()
    tell(attempt, 7, 8, 9)
    attempt.finish(0, 3, Finish.STOP)
    assert stage.sink.tokens == {0: [7, 8, 9]}
    assert stage.sink.finished == {0: Finish.STOP}
    assert stage.facts == [DONE]
    assert stage.answer.whole
    assert stage.answer.tokens == 3


def test_logprobs_go_with_their_token():
    stage = Stage()
    stage.answer.began().token(0, 0, 7, TokenLogprobs(-0.5))
    assert stage.sink.logprobs == [TokenLogprobs(-0.5)]


def test_a_token_that_comes_twice_is_dropped_and_counted():
    stage = Stage()
    attempt = stage.answer.began()
    tell(attempt, 7, 8)
    tell(attempt, 7, 8, 9)
    assert stage.sink.tokens == {0: [7, 8, 9]}
    assert stage.counts.repeated == 2
    assert stage.facts == []


def test_a_token_that_is_missing_ends_the_attempt():
    stage = Stage()
    attempt = stage.answer.began()
    tell(attempt, 7)
    attempt.token(0, 2, 9, None)
    (fact,) = stage.facts
    assert isinstance(fact, Broken)
    assert fact.attempt == 1
    assert stage.sink.tokens == {0: [7]}


def test_tokens_of_an_attempt_that_was_given_up_are_late():
    stage = Stage()
    first = stage.answer.began()
    tell(first, 7)
    stage.answer.stop()
    tell(first, 8, start=1)
    second = stage.answer.began()
    tell(first, 8, start=1)
    first.finish(0, 2, Finish.STOP)
    first.broken("late", ran=True)
    first.busy(1.0)
    assert stage.facts == []
    assert stage.sink.tokens == {0: [7]}
    assert stage.counts.late == 2
    tell(second, 8, start=1)
    assert stage.sink.tokens == {0: [7, 8]}


def test_the_journal_of_a_takeover_is_what_the_client_has():
    stage = Stage(n=2)
    attempt = stage.answer.began()
    tell(attempt, 7, 8, choice=0)
    tell(attempt, 5, choice=1)
    attempt.finish(1, 1, Finish.STOP)
    assert [list(output) for output in stage.answer.outputs] == [[7, 8], [5]]
    assert stage.answer.done == {1}
    second = stage.answer.began()
    tell(second, 6, choice=1, start=1)
    assert stage.sink.tokens == {0: [7, 8], 1: [5]}, "a choice that is complete stays so"


def test_an_end_at_another_length_is_no_end():
    for index in (0, 1, 3):
        stage = Stage()
        attempt = stage.answer.began()
        tell(attempt, 7, 8)
        attempt.finish(0, index, Finish.LENGTH)
        (fact,) = stage.facts
        assert isinstance(fact, Broken)
        assert stage.sink.finished == {}


@pytest.mark.parametrize("why", [Finish.FAILED, Finish.CANCELLED, Finish.NONE])
def test_a_worker_that_gives_up_has_not_finished(why):
    stage = Stage()
    stage.answer.began().finish(0, 0, why)
    (fact,) = stage.facts
    assert isinstance(fact, Broken)
    assert not fact.ended.fault
    assert stage.sink.finished == {}


def test_a_deadline_that_the_worker_saw_is_a_deadline():
    stage = Stage()
    stage.answer.began().finish(0, 0, Finish.EXPIRED)
    (fact,) = stage.facts
    assert isinstance(fact, Expired)
    assert f"within {stage.answer.call.deadlines.total_s:g} s" in fact.what


def test_a_stop_string_ends_its_choice_and_later_tokens_of_it_are_dropped():
    stage = Stage(n=2, stop_at=9)
    attempt = stage.answer.began()
    tell(attempt, 7, 9, 8, choice=0)
    attempt.finish(0, 3, Finish.LENGTH)
    assert stage.sink.tokens == {0: [7, 9]}
    assert stage.sink.finished == {}, "the sink knew before us"
    assert stage.facts == []
    tell(attempt, 9, choice=1)
    assert stage.facts == [DONE]


def test_the_whole_answer_is_told_when_its_last_choice_ends():
    stage = Stage(n=3)
    attempt = stage.answer.began()
    for choice in (2, 0, 1):
        assert stage.facts == []
        attempt.finish(choice, 0, Finish.LENGTH)
    assert stage.facts == [DONE]


def test_stopping_cancels_what_runs_once():
    stage = Stage()
    stage.answer.began()
    running = stage.answer.running = Running()
    stage.answer.stop()
    stage.answer.stop()
    assert running.cancelled == 1


def test_a_takeover_is_timed_from_the_fault_to_the_acceptance():
    stage = Stage()
    first = stage.answer.began()
    first.accepted()
    assert stage.takeovers == []
    stage.answer.stop()
    stage.answer.broken_s = stage.clock.time
    stage.clock.time += 0.25
    second = stage.answer.began()
    first.accepted()
    second.accepted()
    second.accepted()
    assert stage.takeovers == [("c", 0.25, stage.clock.time)]


def test_a_forwarded_answer_passes_as_bytes():
    stage = Stage()
    attempt = stage.answer.began()
    attempt.head(200, [])
    attempt.body(b"one")
    assert stage.answer.started
    attempt.body(b"two")
    attempt.complete()
    assert (stage.sink.status, stage.sink.bytes, stage.facts) == (200, b"onetwo", [DONE])


LIMITS = Deadlines(total_s=10, first_token_s=2, between_tokens_s=1)


def test_each_deadline_is_named_when_it_passes():
    stage = Stage(deadlines=LIMITS)
    start = stage.clock.time
    assert stage.answer.overdue(start) == start + 2
    verdict = stage.answer.overdue(start + 2)
    assert isinstance(verdict, Expired)
    assert "first token" in verdict.what
    attempt = stage.answer.began()
    stage.clock.time = start + 1.5
    tell(attempt, 7)
    assert stage.answer.overdue(start + 2) == start + 2.5
    verdict = stage.answer.overdue(start + 2.5)
    assert isinstance(verdict, Expired)
    assert "no token" in verdict.what
    for step in range(1, 10):
        stage.clock.time = start + 1.5 + 0.9 * step
        tell(attempt, 7, start=step)
    assert stage.answer.overdue(start + 9.65) == start + 10
    verdict = stage.answer.overdue(start + 10)
    assert isinstance(verdict, Expired)
    assert "whole answer" in verdict.what


class Workers(RuleBasedStateMachine):
    """Workers that send tokens of any attempt, any index, twice, late, or not at all. The answer is a function of the index."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage(n=2)
        self.attempts = [self.stage.answer.began()]

    @rule(which=st.integers(0, 5), choice=st.integers(0, 1), index=st.integers(0, 12), length=st.integers(1, 6))
    def send(self, which, choice, index, length):
        attempt = self.attempts[which % len(self.attempts)]
        for at in range(index, index + length):
            attempt.token(choice, at, 100 * choice + at, None)

    @rule(choice=st.integers(0, 1), length=st.integers(1, 6))
    def go_on(self, choice, length):
        start = len(self.stage.answer.outputs[choice])
        tell(self.attempts[-1], *(100 * choice + at for at in range(start, start + length)), choice=choice, start=start)

    @rule(which=st.integers(0, 5), choice=st.integers(0, 1), off=st.integers(-1, 1))
    def finish(self, which, choice, off):
        attempt = self.attempts[which % len(self.attempts)]
        attempt.finish(choice, len(self.stage.answer.outputs[choice]) + off, Finish.STOP)

    @rule()
    def take_over(self):
        self.stage.answer.stop()
        self.attempts.append(self.stage.answer.began())

    @invariant()
    def the_client_has_every_token_once_and_in_order(self):
        for choice in (0, 1):
            seen = self.stage.sink.tokens.get(choice, [])
            assert seen == [100 * choice + at for at in range(len(seen))]
            assert array("I", seen) == self.stage.answer.outputs[choice]

    @invariant()
    def it_is_done_once_and_only_when_all_choices_are(self):
        assert self.stage.facts.count(DONE) == (len(self.stage.sink.finished) == 2)


TestWorkers = Workers.TestCase
TestWorkers.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10)), max_size=30))
def test_whatever_overlaps_or_gaps_come_nothing_is_missing_and_nothing_twice(bursts):
    stage = Stage()
    attempt = stage.answer.began()
    for start, length in bursts:
        tell(attempt, *range(start, start + length), start=start)
    seen = stage.sink.tokens.get(0, [])
    assert seen == list(range(len(seen)))
