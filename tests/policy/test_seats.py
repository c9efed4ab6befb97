from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cordee.domain.call import Priority
from cordee.domain.outcome import Refusal, Why
from cordee.domain.replica import Capacity, ReplicaKind
from cordee.policy.breaker import Breaker, BreakerRules
from cordee.policy.fairness import FORGET_MIN
from cordee.policy.route import Replica, Size, Want
from cordee.policy.seats import JITTER, Granted, Queued, Seated, SeatRules, Seats, Ticket

ONE = Size(1, 10)
LATER = 1000.0


def seats_of(*sequences: int, rules: SeatRules | None = None, kind: ReplicaKind = ReplicaKind.HTTP) -> Seats:
    """One replica for each number of sequences; of servers, so that a seat given back is free at once."""
    seats = Seats("m", rules or SeatRules())
    for number, count in enumerate(sequences):
        replica = Replica(f"r{number}", kind, Capacity(count, 1000), "f", Breaker(BreakerRules()))
        replica.ready = True
        seats.replicas.append(replica)
    return seats


def ticket(
    name: str = "c", priority: Priority = Priority.STANDARD, size: Size = ONE, start_by_s: float = LATER, accepted: bool = False,
    avoid: str = "", fingerprint: str = "",
) -> Ticket:  # fmt: skip
    want = Want(size, anyway=accepted, avoid=avoid, fingerprint=fingerprint)
    return Ticket(name, priority, want, start_by_s, accepted=accepted)


RNG = Random(1)


def ask(seats: Seats, wanted: Ticket, now: float = 0.0) -> Seated | Queued | Refusal:
    return seats.ask(now, RNG, wanted)


def granted(seats: Seats, now: float = 0.0) -> list[str]:
    return [grant.ticket.call_id for grant in seats.due(now, RNG)]


def free(seats: Seats, at: int = 0, size: Size = ONE) -> None:
    seats.replicas[at].left(size)


def test_a_free_seat_is_taken_at_once():
    seats = seats_of(1)
    answer = ask(seats, ticket())
    assert answer == Seated(seats.replicas[0])
    assert seats.replicas[0].used == 1


def test_the_next_call_waits_and_knows_its_place():
    seats = seats_of(1)
    ask(seats, ticket())
    assert [ask(seats, ticket(str(i))) for i in range(3)] == [Queued(0), Queued(1), Queued(2)]


def test_nobody_overtakes_those_who_wait():
    seats = seats_of(2)
    ask(seats, ticket("a"))
    assert isinstance(ask(seats, ticket("large", size=Size(2, 20))), Queued)
    assert isinstance(ask(seats, ticket("small")), Queued), "there is room for it, but not for the one before it"
    assert granted(seats) == []
    free(seats)
    assert granted(seats) == ["large"]


@given(st.permutations([(p, by) for p in Priority for by in (10.0, 20.0, 30.0)]))
def test_the_order_is_priority_then_deadline(order):
    seats = seats_of(9)
    blocker = Size(9, 90)
    ask(seats, ticket("blocker", size=blocker))
    for priority, by in order:
        ask(seats, ticket(f"{int(priority)} {by}", priority=priority, start_by_s=by))
    free(seats, size=blocker)
    assert granted(seats) == sorted(f"{int(p)} {by}" for p, by in order)


def test_equals_are_served_in_the_order_of_their_arrival():
    seats = seats_of(9)
    blocker = Size(9, 90)
    ask(seats, ticket("blocker", size=blocker))
    for name in "abcdefg":
        ask(seats, ticket(name))
    free(seats, size=blocker)
    assert granted(seats) == list("abcdefg")


def test_a_call_that_was_accepted_goes_first_and_needs_no_room():
    seats = seats_of(1)
    ask(seats, ticket("a"))
    ask(seats, ticket("b", priority=Priority.INTERACTIVE))
    assert isinstance(ask(seats, ticket("moved", accepted=True)), Seated)
    assert seats.replicas[0].used == 2


def test_an_accepted_call_that_nobody_may_continue_holds_nobody_up():
    seats = seats_of(2)
    assert isinstance(ask(seats, ticket("moved", accepted=True, fingerprint="another")), Queued)
    ask(seats, ticket("new"))
    assert granted(seats) == ["new"]
    seats.replicas[0].fingerprint = "another"
    assert granted(seats) == ["moved"]


def test_an_accepted_call_is_never_refused_for_want_of_room():
    seats = seats_of(rules=SeatRules(waiting_max=0))
    assert isinstance(ask(seats, ticket(accepted=True)), Queued)


def test_the_one_that_failed_is_avoided_unless_it_is_the_only_one():
    seats = seats_of(2, 2)
    assert ask(seats, ticket(avoid="r0")) == Seated(seats.replicas[1])
    seats.replicas[1].ready = False
    assert ask(seats, ticket(avoid="r0")) == Seated(seats.replicas[0])


def test_a_full_queue_refuses_with_the_time_to_come_back():
    seats = seats_of(1, rules=SeatRules(waiting_max=1))
    ask(seats, ticket())
    ask(seats, ticket())
    refusal = ask(seats, ticket())
    assert isinstance(refusal, Refusal)
    assert refusal.why is Why.QUEUE_FULL
    assert refusal.retry_after_s is not None
    assert refusal.retry_after_s >= 1
    assert "'m'" in refusal.message


def test_a_wait_that_cannot_end_in_time_is_refused_at_once():
    seats = seats_of(1, rules=SeatRules())
    ask(seats, ticket("running"))
    ask(seats, ticket("first"))
    for now in (10.0, 20.0):
        seats.departed(now, 10)
    answer = ask(seats, ticket(start_by_s=LATER), now=20.0)
    assert isinstance(answer, Queued)
    assert answer.position == 1
    assert answer.wait_s == pytest.approx(20.0)
    seats.overdue(LATER, RNG)
    ask(seats, ticket("first"), now=20.0)
    assert isinstance(ask(seats, ticket(start_by_s=20.0 + 19.0), now=20.0), Refusal)
    assert isinstance(ask(seats, ticket(start_by_s=20.0 + 21.0), now=20.0), Queued)


def test_retry_after_follows_the_drain_rate_and_is_spread():
    seats = seats_of(1, rules=SeatRules(waiting_max=1))
    ask(seats, ticket())
    ask(seats, ticket())
    free(seats)
    seats.departed(10.0, 10)
    after = [getattr(ask(seats, ticket(), now=10.0), "retry_after_s", 0.0) for _ in range(100)]
    assert min(after) >= 20 * (1 - JITTER)
    assert max(after) <= 20 * (1 + JITTER)
    assert max(after) - min(after) > 5


def cold(slots: int, apart_s: float, first: Size, first_s: float) -> list[float]:
    """A fresh pool under a burst of forty calls: how long it says that the line takes while the first round comes back, over how long it
    takes at the rate of that round. Answers of 11 s begin together and end `apart_s` after each other; one of `first` size is the first."""
    seats = seats_of(slots)
    tickets = [ticket(str(i), Priority.BATCH, first if i == 0 else Size(1, 200)) for i in range(40)]
    for one in tickets:
        ask(seats, one)
    said = []
    for number, one in enumerate(tickets[:slots]):
        now = 11.0 + apart_s * number if number else first_s
        seats.replicas[0].left(one.size)
        seats.departed(now, one.size.tokens, now - one.seated_s)
        granted(seats, now)
        said.append(seats.expected_wait_s(now, Priority.BATCH) / (11.0 * seats.waiting / slots))
    return said


@pytest.mark.parametrize(("slots", "apart_s"), [(4, 0.0), (8, 0.2), (16, 0.1)])
def test_the_first_seats_of_a_fresh_pool_that_come_back_speak_for_those_beside_them(slots, apart_s):
    assert all(0.7 < share < 1.2 for share in cold(slots, apart_s, Size(1, 200), 11.0))


@pytest.mark.parametrize("slots", [4, 8, 16])
def test_a_short_call_that_comes_back_first_does_not_speak_for_long_ones(slots):
    assert all(0.7 < share < 1.3 for share in cold(slots, 0.1, Size(1, 40), 10.0))


def test_calls_under_way_that_come_back_soon_after_a_queue_began_are_no_fast_ones():
    seats = seats_of(16)
    for number in range(16):  # one each second
        ask(seats, ticket(str(number), size=Size(1, 200)), now=float(number))
    waiting = [ticket(f"waits {number}", size=Size(1, 200)) for number in range(8)]
    for one in waiting:
        ask(seats, one, now=15.9)
    for number in range(6):
        now = 16.0 + number
        free(seats, size=Size(1, 200))
        seats.departed(now, 200, 16.0)
        assert seats.expected_wait_s(now) == pytest.approx(8.0)


def test_what_comes_back_late_after_an_early_one_is_waited_for_as_long():
    seats = seats_of(4)
    for number in range(12):
        ask(seats, ticket(str(number), Priority.BATCH, Size(1, 200)))
    seats.replicas[0].left(Size(1, 200))
    seats.departed(1.0, 200, 1.0)
    assert seats.expected_wait_s(1.0, Priority.BATCH) == pytest.approx(2.0)
    assert seats.expected_wait_s(9.0, Priority.BATCH) == pytest.approx(16.0), "nothing came back since"


def test_those_who_waited_too_long_are_refused():
    seats = seats_of(1)
    ask(seats, ticket("running"))
    ask(seats, ticket("patient", start_by_s=10.0))
    ask(seats, ticket("impatient", start_by_s=5.0))
    assert seats.overdue(4.9, RNG) == []
    (grant,) = seats.overdue(5.0, RNG)
    assert grant.ticket.call_id == "impatient"
    assert isinstance(grant.answer, Refusal)
    assert grant.answer.why is Why.QUEUE_TIMEOUT
    assert grant.answer.retry_after_s
    free(seats)
    assert granted(seats) == ["patient"]


def test_an_accepted_call_that_finds_nobody_fails_by_its_deadline():
    seats = seats_of()
    ask(seats, ticket(accepted=True, start_by_s=5.0))
    (grant,) = seats.overdue(5.0, RNG)
    assert isinstance(grant.answer, Refusal)
    assert grant.answer.why is Why.DEADLINE


def test_whoever_withdrew_is_passed_over():
    seats = seats_of(1)
    ask(seats, ticket("running"))
    gone = ticket("gone")
    ask(seats, gone)
    ask(seats, ticket("next"))
    seats.withdraw(gone)
    assert seats.waiting == 1
    free(seats)
    assert granted(seats) == ["next"]


@pytest.mark.parametrize("leave", [Seats.withdraw, Seats.went_out])
def test_when_the_last_one_has_left_the_queue_its_demand_is_forgotten(leave):
    seats = seats_of(1)
    ask(seats, ticket("running"))
    for number in range(60):  # over three seconds nobody but the newest one waits
        gone = ticket(str(number))
        assert isinstance(ask(seats, gone, number * 0.05), Queued)
        leave(seats, gone)
    ask(seats, ticket("waiting"), 3.0)
    free(seats)
    seats.departed(3.9, 10)
    answer = ask(seats, ticket("next"), 3.9)
    assert isinstance(answer, Queued)
    assert answer.wait_s > seats.rules.overload_wait_s


def test_a_seat_outside_answers_the_demand_of_a_call_that_waited():
    seats = seats_of(1)
    ask(seats, ticket("running"))
    ask(seats, ticket("waits all the time"))
    for number in range(60):
        gone = ticket(str(number))
        ask(seats, gone, number * 0.05)
        seats.went_out(gone)
    seats.departed(3.0, 10)
    assert isinstance(ask(seats, ticket("next"), 3.0), Queued)


def test_the_queue_does_not_grow_with_those_who_left_it():
    seats = seats_of(1)
    ask(seats, ticket("running"))
    ask(seats, ticket("first", priority=Priority.INTERACTIVE))
    for _ in range(10 * FORGET_MIN):
        gone = ticket(priority=Priority.BATCH)
        ask(seats, gone)
        seats.withdraw(gone)
    line = seats._line
    for kept in (line._deadlines, line._classes[2].arrivals, line._classes[2].fair._order):
        assert len(kept) <= FORGET_MIN + 8
    free(seats)
    assert granted(seats) == ["first"]


def test_a_replica_that_is_shut_out_gets_exactly_one_probe():
    seats = seats_of(8, 8, 8)
    for _ in range(3):
        seats.replicas[0].breaker.failed(0.0, 0.5)
    for _ in range(16):
        ask(seats, ticket(), now=0.5)
    assert seats.replicas[0].mine == 0
    seats.replicas[0].tokens = -1000  # the least loaded by far
    for _ in range(5):
        ask(seats, ticket(), now=2.0)
        free(seats, 1)
    assert seats.replicas[0].mine == 1


def test_when_most_replicas_look_broken_they_are_asked_all_the_same():
    seats = seats_of(2, 2)
    for replica in seats.replicas:
        for _ in range(3):
            replica.breaker.failed(0.0, 0.5)
    assert isinstance(ask(seats, ticket(), now=0.1), Seated)


def test_a_minority_that_looks_broken_is_left_out():
    seats = seats_of(1, 1, 1)
    for _ in range(3):
        seats.replicas[0].breaker.failed(0.0, 0.5)
    assert isinstance(ask(seats, ticket(), now=0.1), Seated)
    assert isinstance(ask(seats, ticket(), now=0.1), Seated)
    assert isinstance(ask(seats, ticket(), now=0.1), Queued)


class Rush(RuleBasedStateMachine):
    """Calls come, wait, are served, give up and move, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.seats = seats_of(2, 3, rules=SeatRules(waiting_max=5))
        self.rng = Random(0)
        self.now = 0.0
        self.waiting: dict[str, Ticket] = {}
        self.here: dict[str, tuple[Replica, Ticket]] = {}
        self.count = 0

    def _seat(self, wanted: Ticket, answer: Seated | Refusal) -> None:
        if isinstance(answer, Seated):
            replica = answer.replica
            self.here[wanted.call_id] = (replica, wanted)
            if not any(other.accepted for at, other in self.here.values() if at is replica):
                assert replica.used <= replica.capacity.sequences, "no more than fit, until a call had to move"

    @rule(
        sequences=st.integers(1, 2),
        priority=st.sampled_from(Priority),
        patience=st.floats(1, 20),
        accepted=st.booleans(),
    )
    def arrive(self, sequences, priority, patience, accepted):
        self.count += 1
        wanted = ticket(str(self.count), priority, Size(sequences, 10 * sequences), self.now + patience, accepted)
        answer = self.seats.ask(self.now, self.rng, wanted)
        if isinstance(answer, Queued):
            self.waiting[wanted.call_id] = wanted
        else:
            assert not (accepted and isinstance(answer, Refusal))
            self._seat(wanted, answer)

    @rule(which=st.integers(0, 20))
    def end(self, which):
        if self.here:
            replica, gone = self.here.pop(sorted(self.here)[which % len(self.here)])
            replica.left(gone.size)
            self.seats.departed(self.now, gone.size.tokens)

    @rule(which=st.integers(0, 20))
    def give_up(self, which):
        if self.waiting:
            self.seats.withdraw(self.waiting.pop(sorted(self.waiting)[which % len(self.waiting)]))

    @rule(passed=st.floats(0, 5))
    def wait(self, passed):
        self.now += passed
        grants: list[Granted] = self.seats.overdue(self.now, self.rng) + self.seats.due(self.now, self.rng)
        for grant in grants:
            assert self.waiting.pop(grant.ticket.call_id) is grant.ticket, "each ticket is answered once"
            self._seat(grant.ticket, grant.answer)

    @invariant()
    def no_ticket_is_lost(self):
        assert self.seats.waiting == len(self.waiting)

    @invariant()
    def every_seat_is_accounted_for(self):
        for replica in self.seats.replicas:
            assert replica.mine == sum(held.size.sequences for at, held in self.here.values() if at is replica)

    @invariant()
    def the_queue_is_bounded(self):
        assert sum(not waiting.accepted for waiting in self.waiting.values()) <= 5

    def teardown(self):
        """Once everybody has gone, those who still wait are served or told no."""
        for replica, gone in self.here.values():
            replica.left(gone.size)
        self.here.clear()
        self.now += 100.0
        self.wait(0.0)
        assert not self.waiting
        assert self.seats.waiting == 0


TestRush = Rush.TestCase
TestRush.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
