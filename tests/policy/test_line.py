from __future__ import annotations

from cordee.domain.call import Priority
from cordee.policy.line import AGED_EVERY, Line, Ticket
from cordee.policy.route import Size, Want

AGEING_S = 10.0


def ticket(name: str, priority: Priority = Priority.STANDARD, by: float = 1000.0, tenant: str = "") -> Ticket:
    return Ticket(name, priority, Want(Size(1, 10)), by, tenant)


def line_of(*tickets: Ticket, now: float = 0.0) -> Line:
    line = Line(100)
    for one in tickets:
        line.push(now, one)
    return line


def take(line: Line, now: float, count: int = 1000) -> list[str]:
    taken: list[str] = []
    while len(taken) < count and (head := line.head(now, AGEING_S)) is not None:
        line.take(head)
        taken.append(head.call_id)
    return taken


def test_classes_go_strictly_one_after_the_other():
    line = line_of(ticket("b", Priority.BATCH), ticket("s"), ticket("i", Priority.INTERACTIVE))
    assert take(line, 0.0) == ["i", "s", "b"]
    assert line.waiting == 0


def test_whoever_has_waited_long_enough_gets_one_turn_in_a_few_of_the_class_above():
    line = line_of(ticket("old", Priority.BATCH))
    for n in range(20):
        line.push(AGEING_S, ticket(f"s{n}"))
    assert take(line, AGEING_S + 1).index("old") == AGED_EVERY - 1


def test_a_flood_of_old_calls_does_not_push_a_class_aside():
    line = line_of(*(ticket(f"old{n}", Priority.BATCH) for n in range(100)))
    for n in range(100):
        line.push(AGEING_S, ticket(f"s{n}"))
    first = take(line, AGEING_S + 1, count=40)
    assert sum(name.startswith("old") for name in first) == 40 // AGED_EVERY


def test_the_oldest_comes_through_all_classes():
    line = line_of(ticket("old", Priority.BATCH))
    line.head(AGEING_S, AGEING_S)
    for n in range(20):
        line.push(2 * AGEING_S, ticket(f"i{n}", Priority.INTERACTIVE))
    assert "old" in take(line, 2 * AGEING_S, count=AGED_EVERY)


def test_a_class_that_is_held_gets_no_turn_and_does_not_age_out_of_it():
    line = line_of(ticket("b", Priority.BATCH), ticket("s"))
    line.held_from = Priority.BATCH
    assert take(line, 5 * AGEING_S) == ["s"]
    line.held_from = 3
    assert take(line, 5 * AGEING_S) == ["b"]


def test_whoever_is_too_late_leaves_the_line_once():
    line = line_of(ticket("a", by=5.0), ticket("b", by=7.0), ticket("c", by=9.0))
    assert [one.call_id for one in line.late(7.0)] == ["a", "b"]
    assert line.late(7.0) == []
    assert line.waiting == 1


def test_an_aged_call_can_leave_too():
    old = ticket("old", Priority.BATCH)
    line = line_of(old)
    line.head(AGEING_S, AGEING_S)
    assert old.place == Priority.STANDARD
    assert line.discard(old)
    assert not line.discard(old)
    assert line.waiting == 0
    assert take(line, AGEING_S) == []


def test_what_goes_before_a_newcomer_is_its_fair_part_of_the_line():
    line = line_of(*(ticket(f"f{n}", tenant="flood") for n in range(50)), ticket("q", tenant="quiet"))
    tokens, calls = line.before(ticket("new", tenant="quiet"))
    assert calls == 3, "one of its own, and two of the other tenant meanwhile"
    assert tokens == 10 + 20
    tokens, calls = line.before(ticket("new", tenant="flood"))
    assert calls == 51
    tokens, calls = line.before(ticket("new", Priority.INTERACTIVE, tenant="flood"))
    assert (tokens, calls) == (0, 0)
