from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cordee.services.base.saga import (
    ENDED,
    Job,
    JobState,
    Patience,
    Saga,
    Standing,
    Step,
    Turn,
    begun,
    failed,
    may_cancel,
    succeeded,
    waits,
)

PATIENCE = Patience(3, 1.0, 10.0)


async def _nothing(_turn: Turn) -> None: ...


def saga(*finals: bool, **more: object) -> Saga:
    return Saga("k", tuple(Step(f"s{n}", _nothing, _nothing, is_final) for n, is_final in enumerate(finals)), 1, **more)  # type: ignore[arg-type]


def job(state: JobState = JobState.RUNNING, step: str = "s0", **more: object) -> Job:
    made = Job("job_1", "k", "t", "", "{}", state, step, 0, 0.0, "", False, 1, 0.0, 0.0, None)
    return replace(made, **more)  # type: ignore[arg-type]


def stood(one: Job, standing: Standing) -> Job:
    return replace(
        one,
        state=standing.state,
        step=standing.step,
        tries=standing.tries,
        error=standing.error,
        ended_at=standing.ended_at,
    )


def test_steps_are_done_in_order():
    two = saga(False, False)
    now = begun(two, job(JobState.QUEUED), 1.0)
    assert (now.state, now.step) == (JobState.RUNNING, "s0")
    now = succeeded(two, job(), 1.0)
    assert (now.state, now.step) == (JobState.RUNNING, "s1")
    assert succeeded(two, job(step="s1"), 2.0).ended_at == 2.0


def test_a_failure_is_tried_again_later_and_later_and_then_everything_is_undone():
    two = saga(False, False)
    one, waited = job(step="s1"), []
    while one.state is JobState.RUNNING:
        standing = failed(two, one, 0.0, "no", PATIENCE)
        waited.append(standing.next_at)
        one = stood(one, standing)
    assert waited == [1.0, 2.0, 0.0]
    assert (one.state, one.step, one.error) == (JobState.COMPENSATING, "s1", "no")
    one = stood(one, succeeded(two, one, 0.0))
    assert one.step == "s0"
    one = stood(one, succeeded(two, one, 5.0))
    assert (one.state, one.error, one.ended_at) == (JobState.FAILED, "no", 5.0)


def test_undoing_is_never_given_up():
    one = job(JobState.COMPENSATING, tries=1000)
    standing = failed(saga(False), one, 0.0, "no", PATIENCE)
    assert (standing.state, standing.next_at) == (JobState.COMPENSATING, 10.0)


def test_behind_a_final_step_it_only_goes_forward():
    two = saga(True, False)
    one = job(step="s1", tries=1000)
    assert failed(two, one, 0.0, "no", PATIENCE).state is JobState.RUNNING
    assert failed(two, one, 0.0, "no", PATIENCE, is_impossible=True).state is JobState.FAILED
    assert not may_cancel(two, one)
    assert may_cancel(two, job(JobState.QUEUED))


def test_what_is_impossible_is_undone_at_once():
    assert failed(saga(False), job(), 0.0, "no", PATIENCE, is_impossible=True).state is JobState.COMPENSATING


def test_a_job_cancelled_before_it_began_has_nothing_to_undo():
    standing = begun(saga(False), job(JobState.QUEUED, is_cancelled=True), 3.0)
    assert (standing.state, standing.ended_at) == (JobState.CANCELLED, 3.0)


@pytest.mark.parametrize(
    "decide", [lambda s, j: begun(s, j, 0.0), lambda s, j: succeeded(s, j, 0.0), lambda s, j: waits(s, j, 0.0, 1.0, "")]
)
def test_a_job_cancelled_while_it_runs_is_undone_from_where_it_is(decide):
    two = saga(False, False)
    one = stood(job(step="s1", is_cancelled=True), decide(two, job(step="s1", is_cancelled=True)))
    assert (one.state, one.step) == (JobState.COMPENSATING, "s1")
    for _ in range(2):
        one = stood(one, succeeded(two, one, 0.0))
    assert one.state is JobState.CANCELLED


def test_waiting_is_no_failure():
    standing = waits(saga(False), job(tries=2), 10.0, 5.0, "why")
    assert (standing.tries, standing.next_at, standing.error, standing.state) == (0, 15.0, "why", JobState.RUNNING)


@settings(max_examples=60)
@given(st.lists(st.booleans(), min_size=1, max_size=5), st.lists(st.sampled_from("sfiwc"), max_size=60))
def test_whatever_happens_a_saga_either_ends_whole_or_undone_and_nothing_final_is_undone(
    finals: list[bool], facts: list[str]
):
    """s: success, f: failure, i: impossible, w: wait, c: somebody cancels, where that is allowed."""
    given_saga = saga(*finals)
    done: set[int] = set()
    one, is_past = job(JobState.QUEUED), False
    one = stood(one, begun(given_saga, one, 0.0))
    for fact in facts:
        if one.state in ENDED:
            break
        at = given_saga.index(one.step)
        assert at is not None
        undoes = one.state is JobState.COMPENSATING
        is_past = is_past or finals[at]
        assert not (undoes and is_past)
        match fact:
            case "s":
                (done.discard if undoes else done.add)(at)
                one = stood(one, succeeded(given_saga, one, 0.0))
            case "w":
                one = stood(one, waits(given_saga, one, 0.0, 1.0, ""))
            case "c":
                if may_cancel(given_saga, one):
                    one = replace(one, is_cancelled=True)
            case _:
                one = stood(one, failed(given_saga, one, 0.0, "no", PATIENCE, is_impossible=fact == "i"))
    if one.state is JobState.DONE:
        assert done == set(range(len(finals)))
    if one.state in (JobState.FAILED, JobState.CANCELLED) and not is_past:
        assert not done
