from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.flow.mailbox import Mailbox


def reader(box: Mailbox[int], seen: list[int], count: int):
    async def read() -> None:
        for _ in range(count):
            seen.append(await box.next())

    return read()


def test_the_coroutine_runs_to_its_first_wait_at_once():
    box: Mailbox[int] = Mailbox()
    steps = []

    async def walk() -> None:
        steps.append("before")
        await box.next()
        steps.append("after")

    box.run(walk())
    assert steps == ["before"]
    box.post(1)
    assert steps == ["before", "after"], "in place, before post returned"


@given(st.lists(st.integers()))
def test_facts_come_in_the_order_of_posting_and_none_is_lost(facts):
    box: Mailbox[int] = Mailbox()
    seen: list[int] = []
    box.run(reader(box, seen, len(facts)))
    for fact in facts:
        box.post(fact)
    assert seen == facts


def test_a_fact_posted_by_the_coroutine_itself_waits_its_turn():
    box: Mailbox[int] = Mailbox()
    seen: list[int] = []

    async def walk() -> None:
        box.post(1)
        box.post(2)
        seen.append(0)
        seen.append(await box.next())
        box.post(3)
        seen.append(await box.next())
        seen.append(await box.next())

    box.run(walk())
    assert seen == [0, 1, 2, 3]


def test_a_fact_posted_while_another_wakes_the_coroutine_is_not_lost():
    box: Mailbox[int] = Mailbox()
    seen: list[int] = []

    async def walk() -> None:
        seen.append(await box.next())
        box.post(2)  # what a callback does that runs inside this step
        seen.append(await box.next())
        seen.append(await box.next())

    box.run(walk())
    box.post(1)
    assert seen == [1, 2]
    box.post(3)
    assert seen == [1, 2, 3]


def test_facts_after_the_end_or_before_the_beginning_are_dropped():
    box: Mailbox[int] = Mailbox()
    seen: list[int] = []
    box.post(0)
    box.run(reader(box, seen, 1))
    box.post(1)
    box.post(2)
    assert seen == [1]


def test_a_mailbox_serves_one_coroutine():
    box: Mailbox[int] = Mailbox()
    box.run(reader(box, [], 1))
    another = reader(box, [], 1)
    with pytest.raises(AssertionError):
        box.run(another)
    another.close()


def test_two_mailboxes_wake_each_other():
    left: Mailbox[int] = Mailbox()
    right: Mailbox[int] = Mailbox()
    seen: list[tuple[str, int]] = []

    async def play(name: str, mine: Mailbox[int], other: Mailbox[int]) -> None:
        while (ball := await mine.next()) < 20:
            seen.append((name, ball))
            other.post(ball + 1)

    left.run(play("left", left, right))
    right.run(play("right", right, left))
    left.post(0)
    assert [ball for _, ball in seen] == list(range(20))
    assert {name for name, ball in seen if ball % 2 == 0} == {"left"}
