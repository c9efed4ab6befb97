"""Grammars are tried out in a real process beside this one."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cordee.adapters.grammars import GrammarTrials, TrialRules
from cordee.domain.call import Grammar, Syntax
from cordee.ports import AwayError

FINE = Grammar(Syntax.REGEX, "[a-z]+")
BROKEN = Grammar(Syntax.REGEX, "(a")
SLOW = Grammar(
    Syntax.JSON_SCHEMA, json.dumps({"type": "integer", "multipleOf": 999_983})
)  # seconds, and no limit of the library's
RULES = TrialRules(compute_s=0.2)


def run(what: Callable[[GrammarTrials], Awaitable[Any]], rules: TrialRules = RULES) -> None:
    async def inside() -> None:
        trials = GrammarTrials(rules)
        try:
            await what(trials)
        finally:
            child = trials._child
            trials.close()
            if child is not None:
                await child.wait()

    asyncio.run(inside())


def pid(trials: GrammarTrials) -> int:
    assert trials._child is not None
    return trials._child.pid


def test_a_verdict_is_given_and_remembered():
    async def scene(trials: GrammarTrials) -> None:
        assert trials.known(FINE) is None
        assert await trials.check(FINE) == ""
        assert "unclosed" in await trials.check(BROKEN)
        assert trials.known(FINE) == ""
        assert "unclosed" in (trials.known(BROKEN) or "")
        assert await trials.check(FINE) == ""
        assert trials.counts == {"fine": 2, "refused": 1}

    run(scene)


def test_what_takes_too_long_is_refused_and_the_next_one_gets_its_answer():
    async def scene(trials: GrammarTrials) -> None:
        await trials.check(FINE)
        first = pid(trials)
        assert "longer than 0.2 s" in await trials.check(SLOW)
        assert trials.known(SLOW)
        assert "unclosed" in await trials.check(BROKEN)
        assert pid(trials) != first
        assert trials.counts["too_long"] == 1

    run(scene)


def test_what_needs_too_much_memory_is_refused():
    async def scene(trials: GrammarTrials) -> None:
        many = Grammar(Syntax.JSON_SCHEMA, json.dumps({"enum": [f"value {i}" for i in range(60_000)]}))
        assert "memory" in await trials.check(many)
        assert await trials.check(FINE) == ""

    run(scene, TrialRules(compute_s=20, memory_bytes=48 << 20))


def test_equal_grammars_wait_for_one_trial():
    async def scene(trials: GrammarTrials) -> None:
        verdicts = await asyncio.gather(*(trials.check(FINE) for _ in range(20)))
        assert set(verdicts) == {""}
        assert trials.counts["fine"] == 1

    run(scene)


def test_more_than_may_wait_are_turned_away():
    async def scene(trials: GrammarTrials) -> None:
        different = [Grammar(Syntax.REGEX, f"a{{{i}}}") for i in range(5)]
        found = await asyncio.gather(*map(trials.check, different), return_exceptions=True)
        assert [one for one in found if one == ""] == ["", ""]
        assert sum(isinstance(one, AwayError) for one in found) == 3

    run(scene, TrialRules(waiting_max=2))


def test_a_caller_who_goes_away_takes_nobody_along():
    async def scene(trials: GrammarTrials) -> None:
        first = asyncio.ensure_future(trials.check(FINE))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(trials.check(FINE))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == ""

    run(scene)


def test_the_process_ends_when_nothing_comes_and_is_started_again():
    async def scene(trials: GrammarTrials) -> None:
        await trials.check(FINE)
        child = trials._child
        assert child is not None
        trials.rules = TrialRules(idle_s=0.05)  # only now: it might end before it is looked at
        await trials.check(Grammar(Syntax.REGEX, "b"))
        await child.wait()
        assert trials._child is None
        assert "unclosed" in await trials.check(BROKEN)

    run(scene, TrialRules())


def test_a_process_that_was_killed_is_no_fault_of_the_next_grammar():
    async def scene(trials: GrammarTrials) -> None:
        await trials.check(FINE)
        child = trials._child
        assert child is not None
        os.kill(child.pid, 9)
        await child.wait()
        assert "unclosed" in await trials.check(BROKEN)

    run(scene)


def test_the_oldest_verdicts_are_forgotten_first():
    async def scene(trials: GrammarTrials) -> None:
        await trials.check(FINE)
        await trials.check(BROKEN)
        assert trials.known(FINE) == ""
        await trials.check(Grammar(Syntax.REGEX, "b"))
        assert trials.known(BROKEN) is None
        assert trials.known(FINE) == ""

    run(scene, TrialRules(remembered_max=2))


def test_where_no_process_can_be_started_nobody_is_blamed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cordee.adapters.grammars.sys.executable", "/nowhere/python")

    async def scene(trials: GrammarTrials) -> None:
        with pytest.raises(AwayError):
            await trials.check(FINE)
        assert trials.known(FINE) is None

    run(scene)
