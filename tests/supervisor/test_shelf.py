"""Models that come and go, over workers that do what they are told at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from cordee.adapters.processes import Program
from cordee.domain.presence import Presence
from cordee.supervisor.events import Event
from cordee.supervisor.shelf import Footprint, Plan, Shelf, UnfitError
from cordee.supervisor.status import ModelStatus, Report, State
from cordee.supervisor.watched import Spec, Watched

AT_ONCE, NEVER = 1e-9, 1e9


@dataclass
class Worker:
    """A stand-in for Watched."""

    spec: Spec
    state: State = "stopped"
    answers: int = 0
    deaths: int = 0

    def last_words(self) -> list[str]:
        return ["the kernels are gone"]


@dataclass
class House:
    """A host with so much memory, whose workers are ready as soon as they are started and take theirs."""

    room: int = 1000
    workers: dict[str, Worker] = field(default_factory=dict)
    plans: list[Plan] = field(default_factory=list)
    began: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    comes_up: bool = True

    def model(
        self, name: str, need: int, idle_s: float = NEVER, load: str = "demand", look: Callable[[], Footprint] | None = None
    ) -> None:  # fmt: skip
        spec = Spec(f"worker-1.{name}", "worker", 1, "", Program((), {}, Path()), "", name, is_essential=False)
        self.workers[spec.name] = Worker(spec)
        self.plans.append(Plan(name, load, idle_s, (spec,), look or (lambda: Footprint(need, 0))))  # type: ignore[arg-type]

    def taken(self) -> int:
        return sum(
            plan.look().bytes for plan in self.plans for spec in plan.specs if plan.look and self.workers[spec.name].state == "ready"
        )  # fmt: skip

    def begin(self, spec: Spec) -> None:
        self.began.append(spec.model)
        self.workers[spec.name].state = "ready" if self.comes_up else "starting"

    async def end(self, names: Sequence[str]) -> None:
        for name in names:
            self.workers[name].state = "stopped"

    def run(self, play: Callable[[Shelf], Awaitable[None]]) -> None:
        async def main() -> None:
            shelf = Shelf(
                self.plans, cast(dict[str, Watched], self.workers), self.begin, self.end, lambda: self.room - self.taken(),
                self.heard,
            )  # fmt: skip
            shelf.start()
            async with asyncio.timeout(5):
                await play(shelf)
            shelf.stop()

        asyncio.run(main())

    def heard(self, event: Event) -> None:
        self.events.append(event.line())


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0)


def standing(shelf: Shelf, name: str) -> ModelStatus:
    return next(one for one in shelf.statuses() if one.name == name)


async def loaded(shelf: Shelf, name: str) -> None:
    shelf.wanted(name)
    await until(lambda: standing(shelf, name).state is not Presence.LOADING)


def used(shelf: Shelf, name: str, open: int, ended: int) -> None:
    shelf.heard(Report(name="web-1", pid=1, models={name: (open, ended)}))


def test_a_model_is_started_once_however_many_ask() -> None:
    house = House()
    house.model("a", 100)

    async def play(shelf: Shelf) -> None:
        assert standing(shelf, "a").state is Presence.ABSENT
        assert shelf.wanted("a").state is shelf.wanted("a").state is Presence.LOADING
        await loaded(shelf, "a")
        assert shelf.wanted("a").state is Presence.LOADED
        assert standing(shelf, "a").bytes == 100

    house.run(play)
    assert house.began == ["a"]


def test_the_idle_go_and_the_busy_stay() -> None:
    house = House()
    house.model("idle", 100, AT_ONCE)
    house.model("asked", 100, AT_ONCE)
    house.model("answering", 100, AT_ONCE)
    house.model("recent", 100, NEVER)
    house.workers["worker-1.answering"].answers = 1

    async def play(shelf: Shelf) -> None:
        for name in ("idle", "asked", "answering", "recent"):
            await loaded(shelf, name)
        used(shelf, "asked", 1, 0)
        shelf.tend()  # notes that they are ready
        await asyncio.sleep(0)
        shelf.tend()
        await until(lambda: standing(shelf, "idle").state is Presence.ABSENT)
        used(shelf, "asked", 0, 1)
        assert [standing(shelf, name).state for name in ("asked", "answering", "recent")] == [Presence.LOADED] * 3

    house.run(play)
    assert 'event=unloading name=idle reason=idle' in house.events  # fmt: skip


def test_the_least_recently_used_makes_room_and_a_model_that_cannot_fit_is_told_why() -> None:
    house = House(room=250)
    for name, need in (("a", 100), ("b", 100), ("c", 100), ("huge", 300)):
        house.model(name, need)

    async def play(shelf: Shelf) -> None:
        await loaded(shelf, "a")
        await loaded(shelf, "b")
        shelf.wanted("a")
        await loaded(shelf, "c")
        assert [standing(shelf, name).state for name in "abc"] == [Presence.LOADED, Presence.ABSENT, Presence.LOADED]
        used(shelf, "a", 1, 0)
        used(shelf, "c", 1, 0)
        await loaded(shelf, "b")
        refused = standing(shelf, "b")
        assert refused.state is Presence.FAILED
        assert "it needs 0 MB" in refused.why
        assert [standing(shelf, name).state for name in "ac"] == [Presence.LOADED] * 2, "nobody who is busy went for it"
        await loaded(shelf, "huge")
        assert standing(shelf, "huge").state is Presence.FAILED

    house.run(play)
    assert house.began == ["a", "b", "c"]


def test_two_that_load_at_once_do_not_count_on_the_same_memory() -> None:
    house = House(room=150, comes_up=False)
    house.model("a", 100)
    house.model("b", 100)

    async def play(shelf: Shelf) -> None:
        shelf.wanted("a")
        shelf.wanted("b")
        await until(
            lambda: standing(shelf, "b").state is Presence.FAILED or standing(shelf, "a").state is Presence.FAILED
        )

    house.run(play)
    assert len(house.began) == 1


def test_a_file_that_is_not_whole_is_said_and_looked_at_again_when_somebody_asks_later() -> None:
    house = House()
    broken = True

    def look() -> Footprint:
        if broken:
            raise UnfitError("tensor 'x' ends behind the file: it is truncated")
        return Footprint(100, 0)

    house.model("a", 100, look=look)

    async def play(shelf: Shelf) -> None:
        nonlocal broken
        await loaded(shelf, "a")
        assert "truncated" in standing(shelf, "a").why
        assert shelf.wanted("a").state is Presence.FAILED, "not sooner than something can have changed"
        broken = False
        shelf.wanted("a", by_hand=True)
        await until(lambda: standing(shelf, "a").state is Presence.LOADED)
        assert standing(shelf, "a").why == ""

    house.run(play)


def test_one_that_was_given_up_is_not_tried_again_before_a_person_asks() -> None:
    house = House()
    house.model("a", 100)

    async def play(shelf: Shelf) -> None:
        await loaded(shelf, "a")
        worker = house.workers["worker-1.a"]
        worker.state, worker.deaths = "failed", 8
        told = shelf.wanted("a")
        assert told.state is Presence.FAILED
        assert "ended 8 times" in told.why
        assert "the kernels are gone" in told.why
        assert house.began == ["a"]
        shelf.wanted("a", by_hand=True)
        await until(lambda: standing(shelf, "a").state is Presence.LOADED)

    house.run(play)


def test_pinned_models_are_loaded_at_the_start_and_cannot_be_sent_away() -> None:
    house = House()
    house.model("a", 100, AT_ONCE, load="pinned")

    async def play(shelf: Shelf) -> None:
        assert not shelf.is_settled
        await until(lambda: standing(shelf, "a").state is Presence.LOADED)
        assert shelf.is_settled
        assert shelf.is_whole
        shelf.tend()
        shelf.tend()
        assert "it is pinned" in shelf.unwanted("a").why
        assert standing(shelf, "a").state is Presence.LOADED

    house.run(play)


def test_a_person_sends_a_model_away_and_nobody_knows_what_is_not_configured() -> None:
    house = House()
    house.model("a", 100)

    async def play(shelf: Shelf) -> None:
        await loaded(shelf, "a")
        assert shelf.unwanted("a").state is Presence.UNLOADING
        await until(lambda: standing(shelf, "a").state is Presence.ABSENT)
        for told in (shelf.wanted("nobody"), shelf.unwanted("nobody")):
            assert (told.state, told.why) == (Presence.FAILED, "there is no such model in the configuration")

    house.run(play)
