from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from cordee.domain.call import Priority
from cordee.domain.replica import Capacity, Load, ReplicaKind
from cordee.policy.breaker import Breaker, BreakerRules
from cordee.policy.replica import Replica, Size, Want
from cordee.policy.seats import Queued, Seated, SeatRules, Seats, Ticket

BATCH = Want(Size(1, 10, yields=1))
URGENT = Want(Size(1, 10))


def seats_of(*preempts: bool, room: int = 2) -> Seats:
    seats = Seats("m", SeatRules())
    for number, does in enumerate(preempts):
        replica = Replica(f"r{number}", ReplicaKind.LINK, Capacity(room, 1000), "f", Breaker(BreakerRules()))
        replica.preempts, replica.ready = does, True
        seats.replicas.append(replica)
    return seats


def ask(seats: Seats, priority: Priority, number: int) -> bool:
    want = URGENT if priority is Priority.INTERACTIVE else BATCH
    answer = seats.ask(0.0, Random(1), Ticket(f"{priority}{number}", priority, want, 100.0))
    assert isinstance(answer, (Seated, Queued))
    return isinstance(answer, Seated)


def fill(seats: Seats, count: int = 2) -> None:
    assert all(ask(seats, Priority.BATCH, number) for number in range(count))


def test_a_full_replica_takes_as_many_urgent_calls_as_there_are_others_to_make_room():
    seats = seats_of(True)
    fill(seats)
    assert [ask(seats, Priority.INTERACTIVE, number) for number in range(4)] == [True, True, False, False]


def test_only_the_highest_class_presses():
    seats = seats_of(True)
    fill(seats)
    assert not ask(seats, Priority.STANDARD, 1)


def test_a_replica_that_lets_nobody_make_room_stays_full():
    seats = seats_of(False)
    fill(seats)
    assert not ask(seats, Priority.INTERACTIVE, 1)


def test_room_that_is_free_is_taken_before_anybody_is_pressed():
    seats = seats_of(True, True, room=1)
    fill(seats, 1)
    assert ask(seats, Priority.INTERACTIVE, 1)
    assert [one.used for one in seats.replicas] == [1, 1]


def test_urgent_calls_make_room_for_nobody():
    seats = seats_of(True)
    assert [ask(seats, Priority.INTERACTIVE, number) for number in range(3)] == [True, True, False]


def test_those_who_have_ended_can_make_no_room_and_a_new_process_forgets_all():
    seats = seats_of(True)
    (replica,) = seats.replicas
    fill(seats)
    replica.left(BATCH.size)
    assert replica.yielding == 1
    replica.reconnected()
    assert replica.yielding == 0
    replica.left(BATCH.size)
    assert replica.yielding == 0


@pytest.mark.parametrize("count", [3, 40])
def test_among_many_full_replicas_one_that_can_is_found(count: int):
    seats = seats_of(*([True] * count), room=1)
    fill(seats, count)
    for replica in seats.replicas:
        replica.reported(Load(running=1, tokens=10, seen=1))
    assert ask(seats, Priority.INTERACTIVE, 1)
    assert not isinstance(seats.ask(0.0, Random(2), Ticket("b", Priority.BATCH, replace(BATCH), 100.0)), Seated)
