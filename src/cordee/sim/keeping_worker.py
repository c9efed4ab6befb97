"""A worker of the simulated world that several gateways use and that keeps its answers, as `engine.keep` does: it goes on without
listeners for a while, replays an answer to whoever attaches to it, and forgets it when its time is over.

A death is seen at once by every gateway, a freeze after the suspicion threshold; what a gateway took back meanwhile is heard when
the worker thaws. A gateway that dies leaves: its answers go on.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cordee.domain.call import Call
from cordee.domain.chunk import Finish
from cordee.domain.replica import Load
from cordee.flow.pool import Pool
from cordee.policy.oracle import token_at
from cordee.policy.route import Replica
from cordee.ports import Clock, Receiver
from cordee.sim.worker import SUSPECT_S, WIRE_S, Speed

Row = tuple[int, int, int, Finish]  # choice, index, token, and NONE for a token


@dataclass(frozen=True, slots=True)
class Keep:
    """How long an answer goes on without listeners, and how long a complete one stays, in seconds."""

    grace_s: float = 5.0
    keep_s: float = 20.0


@dataclass(eq=False, slots=True)
class Run:
    """An answer at a worker. `left`: the next index of every choice that is not complete; `rows`: its ring."""

    call: Call
    left: dict[int, int]
    is_kept: bool
    is_attachable: bool
    rows: list[Row] = field(default_factory=list)
    listeners: list[SimListener] = field(default_factory=list)
    since_s: float = 0.0


class SimListener:
    """An attempt of one gateway."""

    def __init__(self, call: Call, receiver: Receiver, link: SimLink) -> None:
        self.call = call
        self.receiver = receiver
        self.link = link
        self.run: Run | None = None

    def cancel(self) -> None:
        self.link.take_back(self, for_good=True)

    def detach(self) -> None:
        self.link.take_back(self, for_good=False)


class SimLink:
    """Port Upstream: the way of one gateway to one worker."""

    def __init__(self, worker: KeepingWorker, pool: Pool, replica: Replica) -> None:
        self.worker = worker
        self.replica = replica
        self.known: dict[SimListener, None] = {}
        self.seen = 0
        self._pool = pool
        self._is_cut = False

    def start(
        self, call: Call, attempt: int, outputs: Sequence[array[int]], done: frozenset[int], remaining_s: float,
        receiver: Receiver,
        sent: Sequence[bytes] = (),
    ) -> SimListener:  # fmt: skip
        listener = SimListener(call, receiver, self)
        if self.worker.is_dead or self._is_cut or not self.replica.ready:
            receiver.broken("the worker is not connected", ran=False)
            return listener
        self.known[listener] = None
        attaches = call.attach == self.replica.id and attempt == 1 and not done and not any(outputs)
        had = {choice: len(output) for choice, output in enumerate(outputs) if choice not in done}
        rows = [
            (choice, index, token, Finish.NONE)
            for choice in had
            for index, token in enumerate(outputs[choice])
        ]  # fmt: skip
        self.worker.later(WIRE_S, lambda: self.worker.asked(listener, had, rows, attaches=attaches))
        if self.worker.is_frozen:
            self.suspect_later()
        return listener

    def take_back(self, listener: SimListener, *, for_good: bool) -> None:
        if self.known.pop(listener, 0) is None and not self._is_cut:
            self.worker.later(WIRE_S, lambda: self.worker.left(listener, for_good=for_good))

    def cut(self) -> None:
        """The gateway has died."""
        self._is_cut = True
        known, self.known = self.known, {}
        for listener in known:
            self.worker.later(WIRE_S, lambda listener=listener: self.worker.left(listener, for_good=False))  # type: ignore[misc]

    def hear(self, listener: SimListener, row: Row) -> None:
        if self._is_cut:
            return
        choice, index, token, why = row
        if why is Finish.NONE:
            listener.receiver.token(choice, index, token, None)
        else:
            listener.receiver.finish(choice, index, why)

    def hears(self, load: Load) -> None:
        if not self._is_cut and self.replica.ready:
            self._pool.reported(self.replica, load)

    def broken(self, cause: str, *, crashed: bool) -> None:
        self.replica.ready = False
        known, self.known = self.known, {}
        for listener in known:
            if not crashed:  # what it took back is heard when the worker goes on
                self.worker.later(WIRE_S, lambda listener=listener: self.worker.left(listener, for_good=True))  # type: ignore[misc]
            listener.receiver.broken(cause, ran=True, crash=len(known) if crashed else 0)

    def suspect_later(self) -> None:
        worker, life = self.worker, self.worker.life

        def suspect() -> None:
            if worker.is_frozen and life == worker.life and self.known:
                self.broken("the worker was silent", crashed=False)

        worker.clock.call_later(SUSPECT_S, suspect)

    def is_back(self, *, is_new: bool) -> None:
        if self._is_cut:
            return
        if is_new:
            self.seen = 0
            self.replica.reconnected()
        self.replica.ready = True
        self._pool.settle()


class KeepingWorker:
    """`slots` answers run at once, each with a token of every choice every `token_s`."""

    def __init__(self, clock: Clock, name: str, slots: int, speed: Speed, keep: Keep) -> None:
        self.clock = clock
        self.name = name
        self.links: list[SimLink] = []
        self.is_dead = self.is_frozen = False
        self.life = 0
        self.attached = 0
        self._slots = slots
        self._speed = speed
        self._keep = keep
        self._runs: list[Run] = []
        self._kept: dict[tuple[str, str], Run] = {}
        self._held: list[Callable[[], None]] = []

    @property
    def running(self) -> int:
        return len(self._runs)

    @property
    def kept(self) -> int:
        return len(self._kept)

    # -- what happens to it

    def die(self) -> None:
        self.is_dead, self.is_frozen = True, False
        self.life += 1
        for lost in (self._runs, self._kept, self._held):
            lost.clear()
        for link in self.links:
            link.broken("the connection was closed", crashed=True)

    def freeze(self) -> None:
        if not self.is_dead:
            self.is_frozen = True
            for link in self.links:
                link.suspect_later()

    def thaw(self) -> None:
        if not self.is_frozen:
            return
        self.is_frozen = False
        held, self._held = self._held, []
        for what in held:
            what()
        for link in self.links:
            link.is_back(is_new=False)

    def revive(self) -> None:
        if self.is_dead:
            self.is_dead = False
            for link in self.links:
                link.is_back(is_new=True)

    def later(self, delay_s: float, what: Callable[[], None]) -> None:
        """In this life only; a frozen worker does it when it thaws."""
        life = self.life

        def due() -> None:
            if life == self.life:
                if self.is_frozen:
                    self._held.append(what)
                else:
                    what()

        self.clock.call_later(delay_s, due)

    # -- what gateways ask of it

    def asked(self, listener: SimListener, had: dict[int, int], rows: list[Row], *, attaches: bool) -> None:
        link, call = listener.link, listener.call
        link.seen += 1
        if listener not in link.known:
            return
        name, work = (call.tenant, call.id), call.work
        assert work is not None
        if attaches:
            kept = self._kept.get(name)
            if kept is None or not kept.is_attachable:
                del link.known[listener]
                listener.receiver.broken("this worker does not have that answer", ran=False)
                return
            self.attached += 1
            listener.receiver.accepted()
            listener.run = kept
            for row in kept.rows:
                link.hear(listener, row)
            if kept.left:
                kept.listeners.append(listener)
            else:
                link.known.pop(listener, None)
            return
        listener.receiver.accepted()
        run = listener.run = Run(call, had, call.keep, len(had) == work.n, rows, [listener])
        if call.keep:
            old = self._kept.get(name)
            if old is not None:
                self._forget(old)
            self._kept[name] = run
        self._runs.append(run)
        self.later(self._speed.first_token_s, lambda: self._emit(run))

    def left(self, listener: SimListener, *, for_good: bool) -> None:
        run = listener.run
        if run is None or listener not in run.listeners:
            return
        run.listeners.remove(listener)
        if run.listeners or not run.left:
            return
        if for_good or not run.is_kept or self._kept.get((run.call.tenant, run.call.id)) is not run:
            self._forget(run)
        else:
            run.since_s = self.clock.now()
            self.later(self._keep.grace_s, lambda: self._grace_over(run))

    # -- inside

    def _grace_over(self, run: Run) -> None:
        if run.left and not run.listeners and self.clock.now() >= run.since_s + self._keep.grace_s:
            self._forget(run)

    def _forget(self, run: Run) -> None:
        """Nobody can ask for it any more; it goes on for those who listen."""
        name = (run.call.tenant, run.call.id)
        if self._kept.get(name) is run:
            del self._kept[name]
        if not run.listeners and run in self._runs:
            self._runs.remove(run)

    def _emit(self, run: Run) -> None:
        if run not in self._runs:
            return
        work = run.call.work
        assert work is not None
        if self._runs.index(run) < self._slots:
            for choice, index in list(run.left.items()):
                if index < work.max_tokens:
                    run.left[choice] = index + 1
                    self._say(run, (choice, index, token_at(work.sampling.seed + choice, index), Finish.NONE))
                if choice in run.left and run.left[choice] >= work.max_tokens:
                    del run.left[choice]
                    self._say(run, (choice, work.max_tokens, 0, Finish.LENGTH))
        if run.left:
            self.later(self._speed.token_s, lambda: self._emit(run))
        elif run in self._runs:
            self._runs.remove(run)
            for listener in run.listeners:
                listener.link.known.pop(listener, None)
            run.listeners.clear()
            self.later(self._keep.keep_s, lambda: self._forget(run))
        self._report()

    def _say(self, run: Run, row: Row) -> None:
        run.rows.append(row)
        for listener in list(run.listeners):
            listener.link.hear(listener, row)

    def _report(self) -> None:
        running = min(len(self._runs), self._slots)
        tokens = sum(run.call.work.cost for run in self._runs if run.call.work is not None)
        for link in self.links:
            link.hears(Load(running, len(self._runs) - running, tokens, link.seen))
