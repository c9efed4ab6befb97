"""Kept answers in a worker that runs: when they are forgotten, and how fast a latecomer is told what it missed.

`keep.Keeps` says what follows from what; this is the clock and the flow control around it. What was missed goes out in parts, the
next one only when the gateway has read most of those before: a listener that reads slowly costs no memory here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cordee.engine.job import Emission, Job, JobName
from cordee.engine.keep import KeepRules, Keeps
from cordee.link import frames
from cordee.ports import Clock, Timer

PART_ROWS = 4096  # 64 KiB of rows: a few milliseconds of a link's time, and a gateway's share of its loop
UNSENT_BYTES_MAX = (
    1024 * 1024
)  # of one connection; above it a part waits, far below where the connection would be closed
PAUSE_S = 0.001  # between two parts, and until an unread part is looked at again
GONE = frames.Refuse(busy=False, message="this worker had no room to keep that answer", gone=True)


class Listeners(Protocol):
    """The connections behind listeners."""

    def unsent_bytes(self, listener: JobName) -> int:
        """What its gateway has not read yet."""
        ...

    def tell(self, part: Emission) -> None: ...

    def refuse(self, listener: JobName, why: frames.Refuse) -> None:
        """What it listens to has ended without an end."""
        ...


class Keeper:
    """One per worker. `stop`: the engine's `cancel`."""

    def __init__(self, rules: KeepRules, clock: Clock, stop: Callable[[JobName], None], listeners: Listeners) -> None:
        self.keeps = Keeps(rules)
        self._clock = clock
        self._stop = stop
        self._listeners = listeners
        self._timer: Timer | None = None
        self._timer_s = 0.0

    def admit(self, job: Job, submit: frames.Submit, cost: int) -> JobName | None:
        """Keep what this job will say. The name the engine is to know it by; None: it runs un-kept."""
        wants_logprobs = submit.logprobs is not None
        name = self.keeps.admit(
            job.name, submit.tenant, submit.keep, job.choices, job.outputs, cost, logprobs=wants_logprobs
        )
        self._follow()
        return name

    def knows(self, attach: frames.Attach) -> bool:
        """Whether `attach` can be answered from here."""
        return self.keeps.has(attach.tenant, attach.call, attach.choices)

    def attach(self, listener: JobName, attach: frames.Attach) -> None:
        """Tell `listener` a kept answer from its beginning. Only after `knows` has said so."""
        self.keeps.attach(listener, attach.tenant, attach.call)
        self._replay(listener)
        self._follow()

    def cancel(self, listener: JobName) -> None:
        self.keeps.cancel(listener)
        self._follow()

    def leave(self, listener: JobName) -> None:
        self.keeps.leave(listener, self._clock.now())
        self._follow()

    def heard(self, ready: Emission) -> Emission:
        """What an emission says to gateways, once what it says to kept answers is kept."""
        told = self.keeps.heard(ready, self._clock.now())
        self._follow()
        return told

    # -- inside

    def _replay(self, listener: JobName) -> None:
        part = None
        if self._listeners.unsent_bytes(listener) <= UNSENT_BYTES_MAX:
            part = self.keeps.replay(listener, PART_ROWS)
            if part is None:
                return
            self._listeners.tell(part.emission)
        if part is None or part.more:
            self._clock.call_later(PAUSE_S, lambda: self._replay(listener))

    def _follow(self) -> None:
        """Do what follows from what has changed."""
        for name in self.keeps.to_stop():
            self._stop(name)
        for listener in self.keeps.to_refuse():
            self._listeners.refuse(listener, GONE)
        due_s = self.keeps.next_due()
        if due_s is None or (self._timer is not None and self._timer_s <= due_s):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_s = self._clock.call_later(max(0.0, due_s - self._clock.now()), self._ring), due_s

    def _ring(self) -> None:
        self._timer = None
        self.keeps.due(self._clock.now())
        self._follow()
