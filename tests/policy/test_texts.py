"""Which texts are computed next: by class, fairly between tenants, none for ever late."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cordee.domain.call import Priority
from cordee.policy.texts import TextRules, Texts

NOW = 100.0
LATE = 1e9
RULES = TextRules(texts_max=4, tokens_max=100, ageing_s=20.0)


def texts(*added: tuple[int, int, int, str], rules: TextRules = RULES) -> Texts:
    """Of (number, tokens, priority, tenant)."""
    waiting = Texts(rules)
    for number, tokens, priority, tenant in added:
        waiting.add(NOW, number, tokens, priority, tenant, LATE)
    return waiting


def test_a_portion_takes_as_many_as_fit_in_order_of_arrival() -> None:
    waiting = texts((1, 60, 1, "a"), (2, 30, 1, "a"), (3, 20, 1, "a"), (4, 1, 1, "a"))
    assert waiting.take(NOW) == [1, 2]
    assert waiting.take(NOW) == [3, 4]
    assert waiting.take(NOW) == []


def test_a_text_that_fills_more_than_a_portion_has_one_of_its_own() -> None:
    waiting = texts((1, 500, 1, "a"), (2, 1, 1, "a"))
    assert waiting.take(NOW) == [1]
    assert waiting.take(NOW) == [2]


def test_a_higher_class_goes_first_and_waits_for_no_lower_one() -> None:
    waiting = texts((1, 10, Priority.BATCH, "a"), (2, 10, Priority.INTERACTIVE, "a"), (3, 10, Priority.STANDARD, "b"))
    assert [waiting.take(NOW) for _ in range(4)] == [[2], [3], [1], []]


def test_two_lanes_share_what_waits_in_portions_that_become_smaller() -> None:
    waiting = texts(*[(number, 10, 1, "a") for number in range(24)], rules=TextRules(100, 1000, lanes=2))
    portions = []
    while len(waiting):
        portions.append(len(waiting.take(NOW)))
    assert portions == [6, 4, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1]


def test_two_texts_are_one_for_each_of_two_lanes() -> None:
    waiting = texts((1, 10, 1, "a"), (2, 10, 1, "a"), rules=TextRules(100, 1000, lanes=2))
    assert [waiting.take(NOW), waiting.take(NOW)] == [[1], [2]]


def test_tenants_of_a_class_share_whoever_came_first() -> None:
    flood = [(number, 10, 1, "flood") for number in range(1, 9)]
    waiting = texts(*flood, (9, 10, 1, "small"), rules=TextRules(2, 100))
    assert 9 in waiting.take(NOW) or 9 in waiting.take(NOW)


def test_who_has_waited_long_moves_up() -> None:
    waiting = Texts(TextRules(texts_max=1, tokens_max=100, ageing_s=20.0))
    waiting.add(NOW, 1, 10, Priority.BATCH, "old", LATE)
    later = NOW + 21
    waiting.take(NOW - 1)  # takes the old one: nothing else is there
    waiting.add(NOW, 2, 10, Priority.BATCH, "old", LATE)
    waiting.add(later, 3, 10, Priority.STANDARD, "new", LATE)
    taken = [*waiting.take(later), *waiting.take(later)]
    assert set(taken) == {2, 3}
    assert len(waiting) == 0


def test_what_is_late_or_unwanted_is_not_computed() -> None:
    waiting = texts((1, 10, 1, "a"), (2, 10, 1, "a"))
    waiting.add(NOW, 3, 10, 1, "a", NOW + 1)
    waiting.remove(2)
    waiting.remove(2)
    assert waiting.expired(NOW + 1) == [3]
    assert waiting.expired(NOW + 1) == []
    assert waiting.take(NOW + 1) == [1]


@given(
    st.lists(
        st.tuples(st.integers(1, 120), st.integers(0, 2), st.sampled_from(["a", "b", "c"]), st.floats(0, 30)), max_size=40
    ),
    st.integers(1, 3),
)  # fmt: skip
def test_every_text_is_taken_once_and_no_portion_is_too_large(
    added: list[tuple[int, int, str, float]], lanes: int
) -> None:
    waiting, now = Texts(TextRules(RULES.texts_max, RULES.tokens_max, lanes)), NOW
    taken: list[int] = []
    tokens = {number: entry[0] for number, entry in enumerate(added)}
    for number, (size, priority, tenant, pause_s) in enumerate(added):
        waiting.add(now, number, size, priority, tenant, LATE)
        now += pause_s
    while len(waiting):
        portion = waiting.take(now)
        assert 1 <= len(portion) <= RULES.texts_max
        assert len(portion) == 1 or sum(tokens[number] for number in portion) <= RULES.tokens_max
        taken += portion
        now += 1
    assert sorted(taken) == list(range(len(added)))
