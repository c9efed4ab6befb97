from __future__ import annotations

from collections.abc import Callable

from cordee.domain.call import Call, Deadlines
from cordee.flow.answer import Answer, Counts
from cordee.flow.facts import Expired, Fact
from cordee.flow.mailbox import Mailbox
from cordee.flow.watch import REST_S, TICK_S, Watch
from cordee.memory.clock import VirtualClock, VirtualTimer
from tests.flow.doubles import Sink


class Box(Mailbox[Fact]):
    """Notes what is posted."""

    __slots__ = ("posted",)

    def __init__(self) -> None:
        super().__init__()
        self.posted: list[Fact] = []

    def post(self, fact: Fact) -> None:
        self.posted.append(fact)


def answer_of(clock: VirtualClock, first_s: float) -> Answer:
    call = Call("c", "m", "t", "/", False, clock.now(), deadlines=Deadlines(first_token_s=first_s), body=b"{}")
    return Answer(call, Sink(), Box(), clock, Counts())


def posted(answer: Answer) -> list[Fact]:
    assert isinstance(answer.box, Box)
    return answer.box.posted


def test_every_call_in_flight_is_told_of_its_own_deadline_and_no_earlier():
    clock = VirtualClock()
    watch = Watch(clock, [])
    answers = []
    for first_s in (0.5, 0.1, 0.3):
        answers.append(answer_of(clock, first_s))
        watch.add(answers[-1])
        clock.run(clock.now() + TICK_S * 1.5)
    for answer, first_s in zip(answers, (0.5, 0.1, 0.3), strict=True):
        due_s = answer.call.arrived_s + first_s
        assert not posted(answer) or clock.now() >= due_s
    clock.run(clock.now() + 1.0)
    assert all([isinstance(fact, Expired) for fact in posted(answer)] == [True] for answer in answers)


def test_a_call_that_has_ended_is_told_nothing():
    clock = VirtualClock()
    watch = Watch(clock, [])
    early, late = answer_of(clock, 0.1), answer_of(clock, 0.1)
    watch.add(early)
    watch.remove(early)  # before the timer has met it
    watch.add(late)
    clock.run(clock.now() + TICK_S * 1.5)
    watch.remove(late)
    clock.run(clock.now() + 1.0)
    assert not posted(early)
    assert not posted(late)
    assert not watch.open


def test_a_new_call_is_met_within_a_tick_though_the_others_gave_leave_to_rest():
    clock = VirtualClock()
    watch = Watch(clock, [])
    watch.add(answer_of(clock, 60.0))
    clock.run(clock.now() + 1.0)  # nothing is new any more
    late = answer_of(clock, TICK_S)
    watch.add(late)
    clock.run(clock.now() + TICK_S * 3)
    assert [type(fact) for fact in posted(late)] == [Expired]


def test_the_timer_is_rare_while_nothing_is_new_and_nobody_waits():
    clock = CountingClock()
    watch = Watch(clock, [])
    watch.add(answer_of(clock, 60.0))
    clock.run(clock.now() + 1.0)
    before = clock.asked
    clock.run(clock.now() + 10 * REST_S)
    assert clock.asked - before <= 11


class CountingClock(VirtualClock):
    """Notes how often it was asked to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def call_later(self, delay_s: float, what: Callable[[], None]) -> VirtualTimer:
        self.asked += 1
        return super().call_later(delay_s, what)
