from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.domain.chunk import Finish
from cordee.engine.job import Emission, JobName, RowEntry, emission
from cordee.engine.keep import KEEPER, KeepRules, Keeps
from cordee.engine.kept import KEPT_BYTES
from cordee.link.frames import ROW, LogprobRow
from tests.engine.doubles import tokens

ROOMY = KeepRules(grace_s=30.0, keep_s=300.0, bytes_max=1 << 20)
FIRST: JobName = (7, 1)


class Ears:
    """What each listener was told, by choice: its tokens in order, and how it ended."""

    def __init__(self) -> None:
        self.tokens: dict[JobName, dict[int, list[int]]] = {}
        self.ends: dict[JobName, list[tuple[int, int]]] = {}
        self.logprobs: dict[JobName, list[tuple[int, int, float]]] = {}

    def hear(self, told: Emission) -> None:
        for number, report in told.logprobs:
            self.logprobs.setdefault((number, report[0]), []).append(report[1:4])
        for number, (handle, choice, finish, index, token) in zip(
            told.connections.tolist(), told.rows.tolist(), strict=True
        ):
            heard = self.tokens.setdefault((number, handle), {}).setdefault(choice, [])
            assert index == len(heard), "a token came out of its place"
            if finish:
                self.ends.setdefault((number, handle), []).append((choice, finish))
            else:
                heard.append(token)


def admitted(keeps: Keeps, listener: JobName = FIRST, call: str = "c", n: int = 1, tenant: str = "t") -> int:
    name = keeps.admit(listener, tenant, call, tuple(range(n)), (tokens(),) * n, 10)
    assert name is not None
    assert name[0] == KEEPER
    return name[1]


def said(handle: int, *ids: int, start: int = 0, choice: int = 0, end: Finish | None = None) -> Emission:
    rows: list[RowEntry] = [(KEEPER, handle, choice, 0, start + i, token) for i, token in enumerate(ids)]
    if end is not None:
        rows.append((KEEPER, handle, choice, int(end), start + len(ids), 0))
    return emission(rows)


def whole(keeps: Keeps, listener: JobName, rows_max: int = 3) -> Ears:
    """All that a replay tells."""
    ears, more = Ears(), True
    while more:
        part = keeps.replay(listener, rows_max)
        assert part is not None
        ears.hear(part.emission)
        more = part.more
    return ears


@given(st.integers(1, 3), st.integers(1, 9), st.data())
def test_everybody_hears_every_token_once_and_in_its_place_whenever_they_come(n: int, length: int, data: st.DataObject):
    keeps, ears = Keeps(ROOMY), Ears()
    handle = admitted(keeps, n=n)
    emitted = [0] * n
    staying, behind, gone, others = {FIRST}, list[JobName](), set[JobName](), 0

    def emit(choices: Sequence[int]) -> None:
        rows: list[RowEntry] = []
        logprobs: list[tuple[int, LogprobRow]] = []
        for choice in choices:
            index = emitted[choice]
            if index < length:
                rows.append((KEEPER, handle, choice, 0, index, 100 * choice + index))
                logprobs.append((KEEPER, (handle, choice, index, -float(index), [(1, -1.0)])))
            elif index == length:
                rows.append((KEEPER, handle, choice, int(Finish.LENGTH), length, 0))
            emitted[choice] += 1
        ears.hear(keeps.heard(emission(rows, logprobs), now=0.0))

    for action in data.draw(st.lists(st.sampled_from(["emit", "emit", "attach", "replay", "leave"]), max_size=40)):
        if action == "emit":
            emit(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=n, unique=True)))
        elif action == "attach":
            assert keeps.has("t", "c", n)
            others += 1
            newcomer = (8 + others % 2, others)
            keeps.attach(newcomer, "t", "c")
            staying.add(newcomer)
            behind.append(newcomer)
        elif action == "replay" and behind:
            listener = data.draw(st.sampled_from(behind))
            part = keeps.replay(listener, data.draw(st.integers(1, 5)))
            assert part is not None
            ears.hear(part.emission)
            if not part.more:
                behind.remove(listener)
        elif action == "leave" and staying:
            listener = data.draw(st.sampled_from(sorted(staying)))
            keeps.leave(listener, 0.0)
            staying.remove(listener)
            gone.add(listener)
            if listener in behind:
                behind.remove(listener)
    while min(emitted) <= length:
        emit(range(n))
    for listener in behind:
        more = True
        while more:
            part = keeps.replay(listener, 2)
            assert part is not None
            ears.hear(part.emission)
            more = part.more
    for listener in staying:
        for choice in range(n):
            assert ears.tokens[listener][choice] == [100 * choice + i for i in range(length)]
        assert sorted(ears.ends[listener]) == [(choice, Finish.LENGTH) for choice in range(n)]
        wanted = [(choice, index, -float(index)) for choice in range(n) for index in range(length)]
        assert sorted(ears.logprobs[listener]) == wanted
    for listener in gone:
        for choice, heard in ears.tokens.get(listener, {}).items():
            assert heard == [100 * choice + i for i in range(len(heard))]
    assert keeps.to_stop() == []
    assert (keeps.choices, keeps.tokens) == (0, 0)
    keeps.due(ROOMY.keep_s)
    assert (keeps.bytes, keeps.next_due()) == (0, None)


def test_an_answer_without_listeners_goes_on_for_its_grace_and_is_then_stopped():
    keeps = Keeps(ROOMY)
    handle = admitted(keeps)
    keeps.leave(FIRST, 100.0)
    keeps.heard(said(handle, 1, 2), 101.0)
    assert keeps.next_due() == 130.0
    keeps.due(129.9)
    assert keeps.has("t", "c", 1)
    keeps.due(130.0)
    assert keeps.to_stop() == [(KEEPER, handle)]
    assert keeps.to_stop() == []
    assert not keeps.has("t", "c", 1)
    assert (keeps.choices, keeps.tokens, keeps.bytes, keeps.next_due()) == (0, 0, 0, None)
    assert len(keeps.heard(said(handle, 3, start=2), 131.0).rows) == 0, "a late row went somewhere"


def test_whoever_comes_back_in_time_ends_the_grace():
    keeps = Keeps(ROOMY)
    admitted(keeps)
    keeps.leave(FIRST, 100.0)
    keeps.attach((8, 1), "t", "c")
    assert keeps.next_due() is None
    keeps.due(1e9)
    assert keeps.to_stop() == []


def test_a_complete_answer_stays_for_its_time():
    keeps = Keeps(ROOMY)
    handle = admitted(keeps)
    keeps.heard(said(handle, 1, 2, end=Finish.STOP), 100.0)
    assert (keeps.choices, keeps.tokens) == (0, 0)
    keeps.due(399.0)
    keeps.attach((8, 1), "t", "c")
    ears = whole(keeps, (8, 1))
    assert ears.tokens == {(8, 1): {0: [1, 2]}}
    assert ears.ends == {(8, 1): [(0, Finish.STOP)]}
    assert keeps.replay((8, 1), 3) is None
    keeps.due(400.0)
    assert not keeps.has("t", "c", 1)
    assert keeps.bytes == 0


def test_a_takeover_keeps_what_the_worker_before_it_had_said():
    keeps = Keeps(ROOMY)
    name = keeps.admit(FIRST, "t", "c", (0, 1), (tokens(5, 6), tokens()), 10)
    assert name is not None
    live = Ears()
    live.tokens[FIRST] = {0: [5, 6]}
    live.hear(keeps.heard(said(name[1], 7, start=2, end=Finish.LENGTH), 0.0))
    keeps.heard(said(name[1], 9, choice=1, end=Finish.LENGTH), 0.0)
    keeps.attach((8, 1), "t", "c")
    assert whole(keeps, (8, 1)).tokens == {(8, 1): {0: [5, 6, 7], 1: [9]}}


def test_a_takeover_whose_log_probabilities_are_lost_runs_un_kept():
    keeps = Keeps(ROOMY)
    assert keeps.admit(FIRST, "t", "c", (0,), (tokens(5),), 10, logprobs=True) is None
    assert keeps.admit(FIRST, "t", "c", (0,), (tokens(),), 10, logprobs=True) is not None


@pytest.mark.parametrize(("tenant", "call", "n"), [("other", "c", 1), ("t", "d", 1), ("t", "c", 2)])
def test_only_its_own_tenant_hears_an_answer_and_only_all_of_it(tenant: str, call: str, n: int):
    keeps = Keeps(ROOMY)
    admitted(keeps)
    assert not keeps.has(tenant, call, n)
    assert keeps.has("t", "c", 1)


def test_an_answer_that_lacks_a_choice_is_given_to_nobody():
    keeps = Keeps(ROOMY)
    keeps.admit(FIRST, "t", "c", (0, 2), (tokens(), tokens()), 10)
    assert not keeps.has("t", "c", 2)
    assert not keeps.has("t", "c", 3)


def test_cancelling_one_listener_of_two_stops_nothing_and_the_last_one_all():
    keeps = Keeps(ROOMY)
    handle = admitted(keeps)
    keeps.attach((8, 1), "t", "c")
    keeps.cancel(FIRST)
    assert keeps.to_stop() == []
    keeps.cancel((8, 1))
    assert keeps.to_stop() == [(KEEPER, handle)]
    assert not keeps.has("t", "c", 1)
    keeps.cancel((8, 1))
    assert keeps.to_stop() == []


def test_a_failure_is_told_to_all_who_listen_and_the_answer_is_forgotten():
    keeps = Keeps(ROOMY)
    handle = admitted(keeps)
    keeps.attach((8, 1), "t", "c")
    failed = emission([(KEEPER, handle, 0, int(Finish.FAILED), 0, 0)], failures=[((KEEPER, handle), "why")])
    told = keeps.heard(failed, 0.0)
    assert sorted(told.failures) == [((7, 1), "why"), ((8, 1), "why")]
    assert len(told.rows) == 0
    assert not keeps.has("t", "c", 1)
    assert keeps.to_stop() == []
    assert (keeps.choices, keeps.bytes) == (0, 0)


def test_an_answer_whose_deadline_passed_is_not_given_again():
    keeps = Keeps(ROOMY)
    handle = admitted(keeps)
    told = keeps.heard(said(handle, 1, end=Finish.EXPIRED), 0.0)
    assert [row[2] for row in told.rows.tolist()] == [0, Finish.EXPIRED]
    assert not keeps.has("t", "c", 1)
    assert keeps.bytes == 0


def test_the_same_call_begun_anew_replaces_what_nobody_listens_to():
    keeps = Keeps(ROOMY)
    old = admitted(keeps)
    keeps.leave(FIRST, 0.0)
    new = admitted(keeps, (8, 1))
    assert keeps.to_stop() == [(KEEPER, old)]
    keeps.heard(said(new, 4), 0.0)
    keeps.attach((9, 1), "t", "c")
    assert whole(keeps, (9, 1)).tokens == {(9, 1): {0: [4]}}


def test_the_same_call_begun_anew_leaves_those_who_listen_to_the_old_one_their_answer():
    keeps, ears = Keeps(ROOMY), Ears()
    old = admitted(keeps)
    admitted(keeps, (8, 1))
    assert keeps.to_stop() == []
    ears.hear(keeps.heard(said(old, 1, 2, end=Finish.STOP), 0.0))
    assert ears.ends == {FIRST: [(0, Finish.STOP)]}
    keeps.cancel((8, 1))
    assert keeps.bytes == 0


def test_without_room_the_oldest_complete_answers_go_first():
    keeps = Keeps(KeepRules(bytes_max=3 * (KEPT_BYTES + 2 * ROW.size)))
    for number in range(3):
        handle = admitted(keeps, (7, number), call=f"c{number}")
        keeps.heard(said(handle, 1, end=Finish.STOP), float(number))
    admitted(keeps, (7, 9), call="c9")
    assert [keeps.has("t", f"c{number}", 1) for number in range(3)] == [False, True, True]


def test_without_room_beside_what_runs_a_new_answer_is_not_kept():
    keeps = Keeps(KeepRules(bytes_max=KEPT_BYTES))
    admitted(keeps)
    assert keeps.admit((7, 2), "t", "d", (0,), (tokens(),), 10) is None
    assert Keeps(KeepRules(bytes_max=0)).admit(FIRST, "t", "c", (0,), (tokens(),), 10) is None


def test_when_what_runs_outgrows_the_room_the_youngest_ring_is_given_up_and_its_live_listeners_go_on():
    keeps, ears = Keeps(KeepRules(bytes_max=2 * KEPT_BYTES + 3 * ROW.size)), Ears()
    admitted(keeps)
    young = admitted(keeps, (8, 1), call="d")
    keeps.heard(said(young, 1), 0.0)
    keeps.attach((9, 1), "t", "d")
    keeps.heard(said(young, 2, 3, 4, start=1), 0.0)
    assert keeps.to_refuse() == [(9, 1)]
    assert keeps.to_refuse() == []
    assert not keeps.has("t", "d", 1)
    assert keeps.has("t", "c", 1)
    ears.tokens[8, 1] = {0: [1, 2, 3, 4]}
    ears.hear(keeps.heard(said(young, 5, start=4, end=Finish.STOP), 0.0))
    assert ears.ends == {(8, 1): [(0, Finish.STOP)]}
    assert keeps.bytes == KEPT_BYTES


def test_what_is_kept_never_weighs_more_than_its_bound_but_for_one_step():
    keeps = Keeps(KeepRules(bytes_max=20 * KEPT_BYTES))
    handles = [keeps.admit((7, i), "t", f"c{i}", (0,), (tokens(),), 1) for i in range(30)]
    kept = [name[1] for name in handles if name is not None]
    assert len(kept) == 20
    for index in range(300):
        rows = [(KEEPER, handle, 0, 0, index, 1) for handle in kept]
        keeps.heard(emission(rows), 0.0)
        assert keeps.bytes <= 20 * KEPT_BYTES
    assert keeps.to_stop() == []
