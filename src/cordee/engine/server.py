"""The worker's end of the link: accepts gateways, acknowledges what they submit at once, sends what the engine gives.

One instance serves all connections of a process, on the event loop's thread. It keeps the count of what is open, so it
knows the load without asking the engine, and refuses what is too much before the engine hears of it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from cordee.domain.chunk import Finish
from cordee.domain.replica import EngineFigures, Gpu, Load, Signals
from cordee.engine.connection import Connection, Open
from cordee.engine.intake import BadWork, read_job
from cordee.engine.job import Emission, Engine, Job, JobName
from cordee.engine.keep import KEEPER, KeepRules
from cordee.engine.keeper import Keeper
from cordee.link import frames
from cordee.ports import Clock

log = logging.getLogger(__name__)

CONNECTIONS = 1 << 32  # connection numbers; they start again long after the first are gone
NOTHING_YET = EngineFigures()
STEPS = 1 << 32  # a load report's count of steps starts again


@dataclass(frozen=True, slots=True)
class ServerRules:
    """`waiting_max`: choices held beyond the slots; takeovers may exceed that by as many as there are slots."""

    name: str
    waiting_max: int
    beat_s: float
    idle_beat_s: float
    keep: KeepRules = field(default_factory=KeepRules)


class LinkServer:
    """Engine on one side, gateways on the other. `admits(transport)` says why a peer is not let in, or None; `signals` how the
    host is."""

    def __init__(
        self,
        engine: Engine,
        rules: ServerRules,
        clock: Clock,
        admits: Callable[[asyncio.BaseTransport], str | None],
        signals: Callable[[], Signals] = Signals,
    ) -> None:
        self._engine = engine
        self._rules = rules
        self._clock = clock
        self._admits = admits
        self._signals = signals
        self._keeper = Keeper(rules.keep, clock, engine.cancel, self)
        self._connections: dict[int, Connection] = {}
        self._numbers = 0
        self._choices = 0  # that are open, but for those of kept answers
        self._tokens = 0
        self._gpus: tuple[Gpu, ...] = ()
        self._figures = engine.figures()
        self._listening = 0  # choices of kept answers that somebody listens to
        self._empty: asyncio.Event = asyncio.Event()
        self._empty.set()
        self.is_draining = False

    def protocol(self) -> Connection:
        """A new connection's protocol: the factory for `create_server`."""
        self._numbers = (self._numbers + 1) % CONNECTIONS or KEEPER + 1
        return Connection(self, self._numbers, self._clock, self._rules.beat_s, self._rules.idle_beat_s)

    def load(self, seen: int = 0) -> Load:
        """The load as a gateway that has sent `seen` attempts is to read it. `tokens` counts what may come to be used."""
        keeps, host = self._keeper.keeps, self._signals()
        choices = self._choices + keeps.choices
        running = min(choices, self._engine.capacity.sequences)
        return Load(
            running, choices - running, self._tokens + keeps.tokens, seen, host.cpu, host.memory, host.gpu,
            self._engine.steps % STEPS,
        )  # fmt: skip

    def tell_gpus(self, found: tuple[Gpu, ...]) -> None:
        """How the accelerators of this worker are, to all gateways and to those that come."""
        if found != self._gpus:
            self._gpus = found
            for connection in self._connections.values():
                connection.send(frames.gpus(found))

    def tell_figures(self) -> None:
        """What the engine has counted, to all gateways, where that has changed."""
        found = self._engine.figures()
        if found != self._figures:
            self._figures = found
            for connection in self._connections.values():
                connection.send(frames.figures(found))

    def drain(self) -> None:
        """Take nothing new and tell the gateways. What runs goes on."""
        self.is_draining = True
        for connection in self._connections.values():
            connection.send(frames.drain())

    async def wait_empty(self) -> None:
        """Until nothing is open. Kept answers that nobody listens to are not waited for."""
        await self._empty.wait()

    def close(self) -> None:
        """Close all connections, after what has been written to them."""
        for connection in list(self._connections.values()):
            connection.close()

    # -- what connections say

    def joined(self, connection: Connection, transport: asyncio.BaseTransport) -> str | None:
        """A peer is there. Returns why it is not let in, else greets it."""
        refused = self._admits(transport)
        if refused is not None:
            return refused
        self._connections[connection.number] = connection
        card, capacity = self._engine.card, self._engine.capacity
        connection.send(
            frames.hello(
                frames.WorkerHello(
                    protocol=frames.PROTOCOL,
                    worker=self._rules.name,
                    pid=os.getpid(),
                    model=card.name,
                    fingerprint=card.fingerprint,
                    context=card.context,
                    vocabulary=card.vocabulary,
                    exact=card.exact,
                    capacity_sequences=capacity.sequences,
                    capacity_tokens=capacity.tokens,
                    beat_s=self._rules.beat_s,
                    tasks=list(card.tasks),
                    adapters=list(card.adapters),
                    preempts=card.preempts,
                )
            )
        )
        if self._gpus:
            connection.send(frames.gpus(self._gpus))
        if self._figures != NOTHING_YET:
            connection.send(frames.figures(self._figures))
        if self.is_draining:
            connection.send(frames.drain())
        return None

    def left(self, connection: Connection) -> None:
        """A connection is gone, and with it whatever it had open."""
        self._connections.pop(connection.number, None)
        for handle in list(connection.open):
            self.detach(connection, handle)

    def submit(self, connection: Connection, handle: int, submit: frames.Submit) -> None:
        refusal, job = self._judge(connection, handle, submit)
        if job is None:
            assert refusal is not None
            connection.send(frames.refuse(handle, refusal))
            return
        connection.send(frames.ack(handle))
        cost = _tokens_of_one(job, self._engine.card.context)
        kept = self._keeper.admit(job, submit, cost) if submit.keep and not job.items else None
        if kept is not None:
            job = replace(job, name=kept)
        self._opened(connection, handle, Open(len(job.choices), cost, kept is not None, submit.call))
        self._engine.submit(job)

    def cancel(self, connection: Connection, handle: int) -> None:
        """The attempt is over, and with it a kept answer that nobody else listens to."""
        attempt = connection.open.pop(handle, None)
        if attempt is None:
            return
        self._count(attempt, -attempt.left)
        if attempt.kept:
            self._keeper.cancel((connection.number, handle))
        else:
            connection.cancelled.add(handle)
            self._engine.cancel((connection.number, handle))

    def attach(self, connection: Connection, handle: int, attach: frames.Attach) -> None:
        """An attempt that hears a kept answer from its beginning."""
        if not self._keeper.knows(attach):
            refusal = frames.Refuse(busy=False, message="this worker does not keep that answer", gone=True)
            connection.send(frames.refuse(handle, refusal))
            return
        connection.send(frames.ack(handle))
        self._opened(connection, handle, Open(attach.choices, 0, kept=True, call=attach.call))
        self._keeper.attach((connection.number, handle), attach)

    def detach(self, connection: Connection, handle: int) -> None:
        """Nobody listens to this attempt any more; a kept answer goes on, another is cancelled."""
        attempt = connection.open.get(handle)
        if attempt is None or not attempt.kept:
            self.cancel(connection, handle)
            return
        del connection.open[handle]
        self._count(attempt, -attempt.left)
        self._keeper.leave((connection.number, handle))

    # -- what the keeper says

    def unsent_bytes(self, listener: JobName) -> int:
        connection = self._connections.get(listener[0])
        return connection.unsent_bytes if connection is not None else 0

    def tell(self, part: Emission) -> None:
        self._send_all(part)

    def refuse(self, listener: JobName, why: frames.Refuse) -> None:
        connection = self._connections.get(listener[0])
        attempt = connection.open.pop(listener[1], None) if connection is not None else None
        if connection is not None and attempt is not None:
            self._count(attempt, -attempt.left)
            connection.send(frames.refuse(listener[1], why))

    def _judge(
        self, connection: Connection, handle: int, submit: frames.Submit
    ) -> tuple[frames.Refuse | None, Job | None]:
        if self.is_draining:
            return frames.Refuse(busy=True, message="this worker is shutting down"), None
        slots = self._engine.capacity.sequences
        limit = slots + self._rules.waiting_max + (slots if submit.attempt > 1 else 0)
        choices = self._choices + self._keeper.keeps.choices
        if choices + len(submit.choices) > limit:
            message = f"{choices} choices are open and {len(submit.choices)} more would pass the limit of {limit}"
            return frames.Refuse(busy=True, message=message), None
        try:
            return None, read_job((connection.number, handle), submit, self._engine.card, self._clock.now())
        except BadWork as bad:
            return frames.Refuse(busy=False, message=str(bad)), None

    def _opened(self, connection: Connection, handle: int, attempt: Open) -> None:
        connection.opened(handle, attempt)
        self._count(attempt, attempt.left)

    def _count(self, attempt: Open, choices: int) -> None:
        if attempt.kept:
            self._listening += choices
        else:
            self._choices += choices
            self._tokens += choices * attempt.cost
        if self._choices or self._listening:
            self._empty.clear()
        else:
            self._empty.set()

    # -- what the engine says

    def deliver(self, ready: Emission) -> None:
        """Send each gateway its rows of a step, in one write."""
        if self._keeper.keeps.choices:
            ready = self._keeper.heard(ready)
        self._send_all(ready)
        for number, handle in ready.cancelled:
            connection = self._connections.get(number)
            if connection is not None:
                connection.cancelled.discard(handle)

    def _send_all(self, ready: Emission) -> None:
        failed = {number for (number, _), _ in ready.failures}
        told = {name[0] for name, _ in ready.cached}
        for number in failed.union(told, np.unique(ready.connections).tolist()):
            connection = self._connections.get(number)
            if connection is not None:
                self._send(connection, ready)

    def _send(self, connection: Connection, ready: Emission) -> None:
        """One gateway's part. Why an attempt failed goes before its rows and instead of them: a gateway that saw only that a
        choice failed would take the worker to be at fault, and try the same work elsewhere."""
        data = self._computed(connection, ready)
        mine = ready.connections == connection.number
        rows = ready.rows if mine.all() else ready.rows[mine]
        logprobs = [row for number, row in ready.logprobs if number == connection.number]
        failures = {name[1]: why for name, why in ready.failures if name[0] == connection.number}
        if connection.cancelled or failures:
            gone = connection.cancelled.union(failures)
            rows = rows[~np.isin(rows["handle"], list(gone))]
            logprobs = [row for row in logprobs if row[0] not in gone]
        for handle in rows["handle"][rows["finish"] != Finish.NONE].tolist():
            attempt = connection.open[handle]
            self._count(attempt, -1)
            attempt.left -= 1
            if not attempt.left:
                del connection.open[handle]
        for handle, why in failures.items():
            failed = connection.open.pop(handle, None)
            if failed is not None:
                # Mostly what was asked for is at fault, and no client is to fill the log with errors of ours. Numbers that are not finite
                # arrive here too: the call's id and the reason tell them apart.
                log.warning("an attempt of call %s failed: %s", failed.call, why)
                self._count(failed, -failed.left)
                data += frames.refuse(handle, frames.Refuse(busy=False, message=why))
        if len(rows):
            data += frames.logprobs(logprobs) if logprobs else b""
            data += frames.step(self.load(connection.seen), rows.tobytes())
        if data:
            connection.send(data)

    def _computed(self, connection: Connection, ready: Emission) -> bytes:
        """What was found computed for one gateway's attempts, and what was computed for their items."""
        data = b""
        if ready.cached:
            mine = [(name[1], tokens) for name, tokens in ready.cached if name[0] == connection.number]
            data += frames.cached(mine) if mine else b""
        for name, choice, floats in ready.results:
            if name[0] == connection.number and name[1] in connection.open:
                data += frames.result(name[1], choice, floats)
        return data


def _tokens_of_one(job: Job, context: int) -> int:
    """Tokens of cache, or of text, that one choice of a job stands for."""
    if job.items:
        return sum(len(job.items[choice].tokens) for choice in job.choices) // len(job.choices)
    return min(context, len(job.prompt) + job.max_tokens)
