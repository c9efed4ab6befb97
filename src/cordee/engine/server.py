"""The worker's end of the link: accepts gateways, acknowledges what they submit at once, sends what the engine gives.

One instance serves all connections of a process, on the event loop's thread. It keeps the count of what is open, so it
knows the load without asking the engine, and refuses what is too much before the engine hears of it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cordee.domain.chunk import Finish
from cordee.domain.replica import Load
from cordee.engine.connection import Connection, Open
from cordee.engine.intake import BadWork, read_job
from cordee.engine.job import Emission, Engine, Job, Rows
from cordee.link import frames
from cordee.ports import Clock

log = logging.getLogger(__name__)

CONNECTIONS = 1 << 32  # connection numbers; they start again long after the first are gone


@dataclass(frozen=True, slots=True)
class ServerRules:
    """`waiting_max`: choices held beyond the slots; takeovers may exceed that by as many as there are slots."""

    name: str
    waiting_max: int
    beat_s: float
    idle_beat_s: float


class LinkServer:
    """Engine on one side, gateways on the other. `admits(transport)` says why a peer is not let in, or None."""

    def __init__(
        self,
        engine: Engine,
        rules: ServerRules,
        clock: Clock,
        admits: Callable[[asyncio.BaseTransport], str | None],
    ) -> None:
        self._engine = engine
        self._rules = rules
        self._clock = clock
        self._admits = admits
        self._connections: dict[int, Connection] = {}
        self._numbers = 0
        self._choices = 0
        self._tokens = 0
        self._empty: asyncio.Event = asyncio.Event()
        self._empty.set()
        self.is_draining = False

    def protocol(self) -> Connection:
        """A new connection's protocol: the factory for `create_server`."""
        self._numbers = (self._numbers + 1) % CONNECTIONS
        return Connection(self, self._numbers, self._clock, self._rules.beat_s, self._rules.idle_beat_s)

    def load(self, seen: int = 0) -> Load:
        """The load as a gateway that has sent `seen` attempts is to read it. `tokens` counts what may come to be used."""
        running = min(self._choices, self._engine.capacity.sequences)
        return Load(running, self._choices - running, self._tokens, seen)

    def drain(self) -> None:
        """Take nothing new and tell the gateways. What runs goes on."""
        self.is_draining = True
        for connection in self._connections.values():
            connection.send(frames.drain())

    async def wait_empty(self) -> None:
        """Until nothing is open."""
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
                )
            )
        )
        if self.is_draining:
            connection.send(frames.drain())
        return None

    def left(self, connection: Connection) -> None:
        """A connection is gone, and with it whatever it had open."""
        self._connections.pop(connection.number, None)
        for handle in list(connection.open):
            self.cancel(connection, handle)

    def submit(self, connection: Connection, handle: int, submit: frames.Submit) -> None:
        refusal, job = self._judge(connection, handle, submit)
        if job is None:
            assert refusal is not None
            connection.send(frames.refuse(handle, refusal))
            return
        connection.send(frames.ack(handle))
        cost = min(self._engine.card.context, len(job.prompt) + job.max_tokens)
        connection.opened(handle, Open(len(job.choices), cost))
        self._count(len(job.choices), cost)
        self._engine.submit(job)

    def cancel(self, connection: Connection, handle: int) -> None:
        attempt = connection.open.pop(handle, None)
        if attempt is not None:
            connection.cancelled.add(handle)
            self._count(-attempt.left, attempt.cost)
            self._engine.cancel((connection.number, handle))

    def _judge(
        self, connection: Connection, handle: int, submit: frames.Submit
    ) -> tuple[frames.Refuse | None, Job | None]:
        if self.is_draining:
            return frames.Refuse(busy=True, message="this worker is shutting down"), None
        slots = self._engine.capacity.sequences
        limit = slots + self._rules.waiting_max + (slots if submit.attempt > 1 else 0)
        if self._choices + len(submit.choices) > limit:
            message = f"{self._choices} choices are open and {len(submit.choices)} more would pass the limit of {limit}"
            return frames.Refuse(busy=True, message=message), None
        try:
            return None, read_job((connection.number, handle), submit, self._engine.card, self._clock.now())
        except BadWork as bad:
            return frames.Refuse(busy=False, message=str(bad)), None

    def _count(self, choices: int, cost: int) -> None:
        self._choices += choices
        self._tokens += choices * cost
        if self._choices:
            self._empty.clear()
        else:
            self._empty.set()

    # -- what the engine says

    def deliver(self, ready: Emission) -> None:
        """Send each gateway its rows of a step, in one write."""
        failures: dict[int, list[tuple[int, str]]] = {}
        for (number, handle), why in ready.failures:
            failures.setdefault(number, []).append((handle, why))
        for number in np.unique(ready.connections).tolist():
            connection = self._connections.get(number)
            if connection is not None:
                mine = ready.connections == number
                self._send(connection, ready, ready.rows if mine.all() else ready.rows[mine], failures.get(number, []))
        for number, handle in ready.cancelled:
            connection = self._connections.get(number)
            if connection is not None:
                connection.cancelled.discard(handle)

    def _send(self, connection: Connection, ready: Emission, rows: Rows, failures: list[tuple[int, str]]) -> None:
        logprobs = [row for number, row in ready.logprobs if number == connection.number]
        if connection.cancelled:
            gone = connection.cancelled
            rows = rows[~np.isin(rows["handle"], list(gone))]
            logprobs = [row for row in logprobs if row[0] not in gone]
            if not len(rows):
                return
        for handle in rows["handle"][rows["finish"] != Finish.NONE].tolist():
            attempt = connection.open[handle]
            self._count(-1, attempt.cost)
            attempt.left -= 1
            if not attempt.left:
                del connection.open[handle]
        refusals = b""
        for handle, why in failures:
            log.error("an attempt failed: %s", why)
            attempt_left = connection.open.pop(handle, None)
            if attempt_left is not None:  # choices that the engine has forgotten with the one that failed
                self._count(-attempt_left.left, attempt_left.cost)
            refusals += frames.refuse(handle, frames.Refuse(busy=False, message=why))
        data = frames.logprobs(logprobs) if logprobs else b""
        connection.send(data + frames.step(self.load(connection.seen), rows.tobytes()) + refusals)
