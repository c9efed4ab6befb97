"""The second step of a batch: its lines are asked, as many at once as there is room for, and their results written down in pieces.

A line is asked under an Idempotency-Key of its own, so one that was answered but not written down before a crash gets the same answer
again; a result is written in a transaction that only commits while this process holds the job, and only over a line that has none.
So each line has exactly one result, whatever is killed when.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from cordee.domain.record import record
from cordee.services.base.door import Asked, DoorError
from cordee.services.base.saga import NotYetError, Turn
from cordee.services.batches.behalf import maker
from cordee.services.batches.records import Batch, Line, Result
from cordee.services.batches.rules import lifecycle
from cordee.services.batches.rules.lines import key_of
from cordee.services.batches.rules.pace import Pace
from cordee.services.batches.rules.verdict import Again, verdict
from cordee.services.batches.service import Service
from cordee.services.batches.store import batches, lines
from cordee.services.batches.work import held_by, of_turn

PRIORITY = "batch"
_JSON = {"content-type": "application/json"}


@record
class _Tried:
    """A line and how often it has failed."""

    line: Line
    tries: int


@dataclass(slots=True)
class _Asking:
    """One turn of one batch. `read_to`: the last line that was read from the database."""

    batch: Batch
    pace: Pace
    ends_at: float
    ready: deque[_Tried] = field(default_factory=deque)
    running: dict[asyncio.Task[Result | Again], _Tried] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    results_bytes: int = 0
    written_at: float = 0.0
    read_to: int = 0
    is_read: bool = False
    makes_room: bool = False

    @property
    def is_through(self) -> bool:
        return self.is_read and not self.ready and not self.running and not self.results


async def ask(service: Service, turn: Turn) -> None:
    """The step. Raises NotYetError when others wait for their turn, or nothing may be asked for a long while."""
    batch = await of_turn(service, turn)
    if not lifecycle.may_go_on(batch, service.now()):
        return
    settings = service.settings
    pace = Pace(settings.lines_at_once, settings.pause_s, settings.pause_s_max)
    state = _Asking(batch, pace, service.now() + settings.turn_s, written_at=service.now())
    try:
        while not state.is_through and lifecycle.may_go_on(state.batch, service.now()):
            await _round(service, turn, state)
    finally:
        for task in state.running:
            task.cancel()
        await asyncio.gather(*state.running, return_exceptions=True)
    await _write(service, turn, state)


async def _round(service: Service, turn: Turn, state: _Asking) -> None:
    """Begin what there is room for, wait for something to happen, and write down what has."""
    now = service.now()
    if not state.makes_room and now >= state.ends_at:
        state.makes_room = await turn.others_wait()
        state.ends_at = now + service.settings.turn_s
    room = 0 if state.makes_room else state.pace.room(len(state.running), now)
    await _read(service, state, room)
    for _ in range(min(room, len(state.ready))):
        tried = state.ready.popleft()
        state.running[asyncio.create_task(_one(service, state.batch, tried))] = tried
    pause_s = state.pace.pause_s(now)
    if not state.running and (state.makes_room or pause_s > service.settings.results_wait_s):
        await _write(service, turn, state)
        left_s = max(0.0, state.batch.expires_at - now)
        raise NotYetError(min(pause_s, left_s), "waits for room" if pause_s else "")
    await _wait(service, state, pause_s)
    settings = service.settings
    is_much = len(state.results) >= settings.piece_lines or state.results_bytes >= settings.piece_bytes
    if is_much or not state.running or service.now() >= state.written_at + settings.results_wait_s:
        await _write(service, turn, state)


async def _read(service: Service, state: _Asking, room: int) -> None:
    """More lines, when there are not enough at hand."""
    if state.is_read or len(state.ready) >= room:
        return
    async with service.database.reading() as on:
        found = await lines.waiting(on, state.batch.id, state.read_to, room)
    state.is_read = len(found) < room
    if found:
        state.read_to = found[-1].number
        state.ready.extend(_Tried(line, 0) for line in found)


async def _wait(service: Service, state: _Asking, pause_s: float) -> None:
    """Until an answer comes, or it is time to look again."""
    wait_s = service.settings.results_wait_s
    if not state.running:
        if pause_s:
            await asyncio.sleep(min(pause_s, wait_s))
        return
    done, _ = await asyncio.wait(state.running, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        tried = state.running.pop(task)
        _note(service, state, tried, task.result())


def _note(service: Service, state: _Asking, tried: _Tried, found: Result | Again) -> None:
    if isinstance(found, Result):
        state.results.append(found)
        state.results_bytes += len(found.body)
        state.pace.served()
        return
    state.pace.refused(service.now(), found.after_s)  # also after a fault: asking faster mends nothing
    tries = tried.tries if found.is_busy else tried.tries + 1
    state.ready.appendleft(_Tried(tried.line, tries))


async def _one(service: Service, batch: Batch, tried: _Tried) -> Result | Again:
    """Ask one line."""
    line, settings = tried.line, service.settings
    asked = Asked(
        "POST", batch.endpoint.value, line.request, key_of(batch.id, line.custom_id), PRIORITY, settings.call_s, _JSON
    )  # fmt: skip
    async with service.calls:
        try:
            answer = await service.door.ask(maker(batch), asked)
        except DoorError:
            return Again(None, True)  # no gateway is there: the line is not to blame
    return verdict(line.number, answer, tried.tries, settings.tries_max)


async def _write(service: Service, turn: Turn, state: _Asking) -> None:
    """Write down results and counts, and see whether the batch is to go on."""
    async with turn.writing() as on:
        batch = await held_by(on, turn)
        if state.results:
            batch = lifecycle.tally(batch, await lines.end(on, batch.id, state.results))
            await batches.change(on, batch)
    state.batch = batch
    state.results.clear()
    state.results_bytes = 0
    state.written_at = service.now()
