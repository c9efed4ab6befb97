"""A worker of the simulated world: it answers as the oracle does, and it dies, freezes and comes back when told.

It behaves as a real worker behind its link does: acknowledgement, one row a token, load in every report; a death is seen at once,
a freeze after the suspicion threshold, and what a thawed worker still sends goes to receivers that may be deaf by then.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from cordee.domain.call import Call
from cordee.domain.chunk import Finish
from cordee.domain.replica import Load
from cordee.flow.pool import Pool
from cordee.policy.oracle import token_at
from cordee.policy.route import Replica
from cordee.ports import Clock, Receiver

WIRE_S = 0.0003  # one way over a unix socket
SUSPECT_S = 0.085  # silence after which a gateway gives a worker up
POISON = 0xDEAD  # a token of a prompt that kills whoever computes it


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds to the first token, give or take the share `jitter`, and between tokens. One first token in `slow_every` takes
    `slow_first_s`; 0: none does."""

    first_token_s: float
    token_s: float
    slow_every: int = 0
    slow_first_s: float = 0.0
    jitter: float = 0.0


class SimAttempt:
    """One attempt at a simulated worker."""

    def __init__(
        self, call: Call, outputs: Sequence[array[int]], done: frozenset[int], receiver: Receiver, worker: SimWorker
    ) -> None:
        assert call.work is not None
        self.call = call
        self.receiver = receiver
        self.emitted = {c: len(outputs[c]) for c in range(call.work.n) if c not in done}
        self.is_over = False
        self._worker = worker

    @property
    def tokens(self) -> int:
        assert self.call.work is not None
        return len(self.emitted) * len(self.call.work.prompt) + sum(self.emitted.values())

    def cancel(self) -> None:
        self._worker.forget(self)

    def detach(self) -> None:
        self.cancel()


class SimWorker:
    """Port Upstream. `slots` attempts run at once, each with a token every `token_s`."""

    def __init__(
        self, clock: Clock, pool: Pool, replica: Replica, slots: int, speed: Speed, rng: Random,
        killed: Callable[[SimWorker], None],
    ) -> None:  # fmt: skip
        self._clock = clock
        self._pool = pool
        self._replica = replica
        self._slots = slots
        self._speed = speed
        self._rng = rng
        self._killed = killed
        self.started = 0
        self._known: set[SimAttempt] = set()  # what the gateway's link knows of
        self._running: list[SimAttempt] = []  # what the worker runs, whether anyone still listens or not
        self._frozen = False
        self._life = 0
        self._seen = 0
        self._held: list[Callable[[], None]] = []
        self.is_dead = False

    # -- port Upstream

    def start(
        self, call: Call, attempt: int, outputs: Sequence[array[int]], done: frozenset[int], remaining_s: float,
        receiver: Receiver,
        sent: Sequence[bytes] = (),
    ) -> SimAttempt:  # fmt: skip
        running = SimAttempt(call, outputs, done, receiver, self)
        self.started += 1
        if self.is_dead:
            receiver.broken("the worker is not connected", ran=False)
            return running
        self._known.add(running)
        self._later(WIRE_S, lambda: self._receive(running))
        if self._frozen:
            self._suspect_later()
        return running

    # -- what happens to it

    def die(self) -> None:
        """SIGKILL: the connection ends, and everybody sees it."""
        self.is_dead, self._frozen = True, False
        self._life += 1
        self._running.clear()
        self._held.clear()
        self._give_up("the connection was closed", crashed=True)

    def freeze(self) -> None:
        """SIGSTOP: nothing comes any more, and nothing says so."""
        if not self.is_dead:
            self._frozen = True
            self._suspect_later()

    def thaw(self) -> None:
        """SIGCONT: it goes on where it was, and sends what nobody waits for."""
        if self.is_dead or not self._frozen:
            return
        self._frozen = False
        held, self._held = self._held, []
        for what in held:
            what()
        self._replica.ready = True
        self._report()
        self._pool.settle()

    def revive(self) -> None:
        """The supervisor has started it again."""
        if self.is_dead:
            self.is_dead = False
            self._seen = 0
            self._replica.reconnected()
            self._replica.ready = True
            self._pool.settle()

    def forget(self, attempt: SimAttempt) -> None:
        self._known.discard(attempt)
        self._later(WIRE_S, lambda: self._running.remove(attempt) if attempt in self._running else None)

    @property
    def running(self) -> int:
        return len(self._running)

    # -- inside

    def _later(self, delay_s: float, what: Callable[[], None]) -> None:
        """In this life only; a frozen worker does it when it thaws."""
        life = self._life

        def due() -> None:
            if life != self._life:
                return
            if self._frozen:
                self._held.append(what)
            else:
                what()

        self._clock.call_later(delay_s, due)

    def _receive(self, attempt: SimAttempt) -> None:
        self._seen += 1
        if attempt not in self._known:
            return
        self._running.append(attempt)
        attempt.receiver.accepted()
        speed = self._speed
        is_slow = speed.slow_every and self._rng.randrange(speed.slow_every) == 0
        first_s = (
            speed.slow_first_s if is_slow else speed.first_token_s * (1 + speed.jitter * (2 * self._rng.random() - 1))
        )
        assert attempt.call.work is not None
        if POISON in attempt.call.work.prompt:
            self._later(first_s, lambda: self._poisoned(attempt))
        self._later(first_s, lambda: self._emit(attempt))

    def _poisoned(self, attempt: SimAttempt) -> None:
        if attempt in self._running:
            self.die()
            self._killed(self)

    def _emit(self, attempt: SimAttempt) -> None:
        if attempt not in self._running:
            return
        work = attempt.call.work
        assert work is not None
        if self._running.index(attempt) < self._slots:
            for choice, index in list(attempt.emitted.items()):
                if index < work.max_tokens:
                    token = token_at(work.sampling.seed + choice, index)
                    attempt.receiver.token(choice, index, token, None)
                    attempt.emitted[choice] = index + 1
                if attempt.emitted[choice] >= work.max_tokens:
                    del attempt.emitted[choice]
                    attempt.receiver.finish(choice, work.max_tokens, Finish.LENGTH)
        if attempt.emitted:
            self._later(self._speed.token_s, lambda: self._emit(attempt))
        elif attempt in self._running:
            self._running.remove(attempt)
            self._known.discard(attempt)
        self._report()

    def _report(self) -> None:
        if self._replica.ready:
            running = min(len(self._running), self._slots)
            tokens = sum(attempt.tokens for attempt in self._running)
            self._pool.reported(self._replica, Load(running, len(self._running) - running, tokens, self._seen))

    def _suspect_later(self) -> None:
        life = self._life

        def suspect() -> None:
            if self._frozen and life == self._life and self._known:
                self._give_up("the worker was silent")

        self._clock.call_later(SUSPECT_S, suspect)

    def _give_up(self, cause: str, *, crashed: bool = False) -> None:
        self._replica.ready = False
        known, self._known = self._known, set()
        crash = len(known) if crashed else 0
        for attempt in sorted(known, key=lambda a: a.call.id):
            attempt.receiver.broken(cause, ran=True, crash=crash)
