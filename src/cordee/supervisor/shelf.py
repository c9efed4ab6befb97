"""The models of a platform: which of them are in memory, loaded when somebody asks, sent away when nobody has for a while.

Memory is planned before a process is started: what a model needs is compared with what the host has left, and idle models make room
for it, the least recently used first (policy.residence). A model whose file is not whole, or that does not fit, is told so to
whoever asks and tried again later; one whose workers keep dying is given up until a person asks for it. Pinned models take the
same way once, at the start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cordee.domain.presence import Presence
from cordee.policy.residence import Resident, is_idle, who_goes
from cordee.supervisor.events import Event, Listener
from cordee.supervisor.status import ModelStatus, Report
from cordee.supervisor.watched import Spec, Watched

AGAIN_S = 1.0  # after a load that could not be: sooner nothing will have changed
PINNED_AGAIN_S = 10.0  # nobody waits for a pinned one that could not be loaded
HEARD_S = 5.0  # a gateway that has not reported for so long no longer counts among those who ask
ROUNDS_MAX = 3  # of sending models away: what they gave back may be less than was planned
MEGABYTE = 1e6
ALIVE = ("starting", "ready", "silent", "draining", "restarting")


class UnfitError(Exception):
    """The model cannot be loaded now; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What all workers of a model need together, in bytes, and how much of it is mapped from its file: the kernel goes on counting
    that as available."""

    bytes: int
    mapped: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A model and its workers. `look` makes sure that its file is whole and returns what its workers need; it may take a while, and
    raises UnfitError. None: they start with the platform (the first model), and need `footprint`."""

    name: str
    load: Literal["pinned", "demand"]
    idle_s: float
    specs: tuple[Spec, ...]
    look: Callable[[], Footprint] | None = None
    footprint: Footprint = Footprint(0, 0)


@dataclass(slots=True)
class _Model:
    plan: Plan
    task: asyncio.Task[None] | None = None
    is_leaving: bool = False  # what the task does
    why: str = ""
    again_s: float = 0.0
    used_s: float = 0.0
    was_ready: bool = False
    footprint: Footprint = Footprint(0, 0)
    uses: dict[str, tuple[int, int, float]] = field(default_factory=dict)  # open, ended, when: by gateway

    @property
    def is_moving(self) -> bool:
        return self.task is not None and not self.task.done()

    def open(self, now: float) -> int:
        return sum(open for open, _, at_s in self.uses.values() if now - at_s <= HEARD_S)


class Shelf:
    """`watched`: every process by name; `begin` starts one anew, `end` ends some and waits for it; `room` is how many bytes the host
    has left for models. Raises nothing: what goes wrong is told to whoever asks and to `listener`."""

    def __init__(
        self, plans: Sequence[Plan], watched: Mapping[str, Watched], begin: Callable[[Spec], None],
        end: Callable[[Sequence[str]], Awaitable[None]], room: Callable[[], int], listener: Listener,
    ) -> None:  # fmt: skip
        self._models = {plan.name: _Model(plan, footprint=plan.footprint) for plan in plans}
        self._watched = watched
        self._begin = begin
        self._end = end
        self._room = room
        self._listener = listener
        self._deciding = asyncio.Lock()

    def start(self) -> None:
        """Load what is pinned."""
        for one in self._models.values():
            if one.plan.load == "pinned" and one.plan.look is not None:
                self._load(one)

    def stop(self) -> None:
        """Nothing is loaded or sent away any more. Idempotent."""
        for one in self._models.values():
            if one.task is not None:
                one.task.cancel()

    @property
    def is_settled(self) -> bool:
        """Every pinned model is there, or will not be."""
        return all(
            self._presence(one) is not Presence.LOADING for one in self._models.values() if one.plan.load == "pinned"
        )

    @property
    def is_whole(self) -> bool:
        """Every worker of every pinned model is ready."""
        return all(
            worker.state == "ready"
            for one in self._models.values()
            if one.plan.load == "pinned"
            for worker in self._workers(one)
        )

    def statuses(self) -> list[ModelStatus]:
        return [self._status(one) for one in self._models.values()]

    def wanted(self, name: str, *, by_hand: bool = False) -> ModelStatus:
        """Somebody asks for a model; it is loaded if it can be."""
        one = self._models.get(name)
        if one is None:
            return _unknown(name)
        one.used_s = _now()
        given_up = any(worker.state == "failed" for worker in self._workers(one))
        if not one.is_moving and one.plan.look is not None and (by_hand or not given_up):
            is_due = by_hand or one.used_s >= one.again_s
            if is_due and any(worker.state not in ALIVE for worker in self._workers(one)):
                self._load(one)
        return self._status(one)

    def unwanted(self, name: str) -> ModelStatus:
        """A person sends a model away."""
        one = self._models.get(name)
        if one is None:
            return _unknown(name)
        if one.plan.load == "pinned":
            status = self._status(one)
            return ModelStatus(
                name=name, state=status.state, why='it is pinned: a [[serve]] with load = "demand" can be unloaded'
            )
        if not one.is_moving and self._alive(one):
            self._unload(one, "asked")
        return self._status(one)

    def heard(self, report: Report) -> None:
        """A gateway says what it has in hand."""
        now = _now()
        for name, (open, ended) in report.models.items():
            one = self._models.get(name)
            if one is not None:
                before = one.uses.get(report.name)
                if open or (before is not None and before[1] != ended):
                    one.used_s = now
                one.uses[report.name] = (open, ended, now)

    def tend(self) -> None:
        """Look after all: about once a second."""
        now = _now()
        for one in self._models.values():
            is_ready = any(worker.state == "ready" for worker in self._workers(one))
            if is_ready and not one.was_ready:
                one.used_s, one.why = max(one.used_s, now), ""
            one.was_ready = is_ready
            if one.is_moving or one.plan.look is None:
                continue
            if one.plan.load == "pinned":
                if now >= one.again_s and one.why and not self._alive(one) and not self._given_up(one):
                    self._load(one)
            elif is_ready and is_idle(now, one.used_s, one.plan.idle_s, is_held=self._is_held(one, now)):
                self._unload(one, "idle")

    # -- inside

    def _load(self, one: _Model) -> None:
        one.is_leaving = False
        one.task = asyncio.get_running_loop().create_task(self._loading(one), name=f"load {one.plan.name}")

    def _unload(self, one: _Model, reason: str) -> None:
        one.is_leaving = True
        one.task = asyncio.get_running_loop().create_task(self._leaving(one, reason), name=f"unload {one.plan.name}")

    async def _loading(self, one: _Model) -> None:
        plan = one.plan
        assert plan.look is not None, "the first model starts with the platform"
        try:
            need = await asyncio.to_thread(plan.look)
            async with self._deciding:  # two that load at once must not both count on the same memory
                await self._make_room(one, need.bytes)
                one.footprint, one.why = need, ""
                for spec in plan.specs:
                    if self._watched[spec.name].state not in ALIVE:
                        self._begin(spec)
        except UnfitError as error:
            one.why = str(error)
            one.again_s = _now() + (AGAIN_S if plan.load == "demand" else PINNED_AGAIN_S)
            self._listener(Event("not-loaded", plan.name, (("reason", error),), logging.ERROR))

    async def _make_room(self, one: _Model, need: int) -> None:
        """Raises UnfitError when the model does not fit, whoever goes."""
        for _ in range(ROUNDS_MAX):
            others = [other for other in self._models.values() if other is not one and self._alive(other)]
            taken = sum(
                other.footprint.bytes if self._presence(other) is Presence.LOADING else other.footprint.mapped
                for other in others
            )
            room = await asyncio.to_thread(self._room) - taken
            now = _now()
            residents = [
                Resident(other.plan.name, other.footprint.bytes, other.used_s, self._is_held(other, now))
                for other in others
            ]
            going = who_goes(need, room, residents)
            if going is None:
                raise UnfitError(
                    f"it needs {need / MEGABYTE:.0f} MB, {max(0, room) / MEGABYTE:.0f} MB are left, and no idle model makes enough "
                    "room: give it fewer slots or a shorter context, or the host more memory"
                )
            if not going:
                return
            for name in going:
                other = self._models[name]
                if not other.is_moving:
                    self._unload(other, f"room for {one.plan.name}")
                if other.task is not None:
                    await asyncio.wait([other.task])
        raise UnfitError("the memory that other models gave back was taken by somebody else: try again")

    async def _leaving(self, one: _Model, reason: str) -> None:
        self._listener(Event("unloading", one.plan.name, (("reason", reason),)))
        await self._end([spec.name for spec in one.plan.specs])
        self._listener(Event("unloaded", one.plan.name))

    def _workers(self, one: _Model) -> list[Watched]:
        return [self._watched[spec.name] for spec in one.plan.specs]

    def _alive(self, one: _Model) -> bool:
        return any(worker.state in ALIVE for worker in self._workers(one))

    def _given_up(self, one: _Model) -> bool:
        return any(worker.state == "failed" for worker in self._workers(one))

    def _is_held(self, one: _Model, now: float) -> bool:
        """It is pinned, it answers, or somebody waits for it: whoever asked for one that loads does."""
        busy = one.open(now) or any(worker.answers for worker in self._workers(one))
        return one.plan.load == "pinned" or bool(busy) or self._presence(one) is Presence.LOADING

    def _presence(self, one: _Model) -> Presence:
        if one.is_moving:
            return Presence.UNLOADING if one.is_leaving else Presence.LOADING
        workers = self._workers(one)
        if any(worker.state in ("ready", "silent") for worker in workers):
            return Presence.LOADED
        if any(worker.state in ALIVE for worker in workers):
            return Presence.LOADING
        if one.why or any(worker.state == "failed" for worker in workers):
            return Presence.FAILED
        return Presence.ABSENT

    def _status(self, one: _Model) -> ModelStatus:
        workers = self._workers(one)
        presence = self._presence(one)
        return ModelStatus(
            name=one.plan.name,
            state=presence,
            load=one.plan.load,
            why=self._why(one, workers) if presence is Presence.FAILED else "",
            workers=len(workers),
            ready=sum(worker.state == "ready" for worker in workers),
            open=one.open(_now()),
            bytes=one.footprint.bytes if self._alive(one) else 0,
        )

    def _why(self, one: _Model, workers: Sequence[Watched]) -> str:
        if one.why:
            return one.why
        dead = next(worker for worker in workers if worker.state == "failed")
        words = dead.last_words()
        said = f": {words[-1]}" if words else ""
        cure = f"when that is mended, `cordee models load {one.plan.name}`"
        return f"{dead.spec.name} ended {dead.deaths} times and was given up{said}; {cure}"


def _unknown(name: str) -> ModelStatus:
    return ModelStatus(name=name, state=Presence.FAILED, why="there is no such model in the configuration")


def _now() -> float:
    return asyncio.get_running_loop().time()
