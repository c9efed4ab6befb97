"""One worker from its joining to its leaving, as seen by who asks it what has a known answer."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable
from random import Random
from typing import Protocol

from cordee.domain.call import Call, Item, Priority, Sampling, Task, Work
from cordee.domain.replica import Load
from cordee.gateway.health.probe import Probe
from cordee.policy.canary import RETRY_S, TOKENS, Asked, CanaryRules, Finding, Known, Said, Stall, Trust, question
from cordee.policy.route import Replica, Size
from cordee.ports import Clock, Timer, Upstream

log = logging.getLogger(__name__)

LOOKS = (
    16  # within `timeout_s`: the first silent look comes one too late and the last one too, so two fewer are waited for
)
SPREAD = 0.1  # ± share of the interval, so that several gateways do not ask in step
SEED_BITS = 48
AS_TAKEOVER = (
    2  # the attempt's number: workers let takeovers in where they refuse new calls, and being busy is no fault
)
ONE_CHOICE = (array("I"),)
UNANSWERED = "unanswered"  # beside the findings, as a reason in metrics: it broke off or refused


class Seat(Protocol):
    """The worker's place in the roster."""

    def trust(self, is_trusted: bool) -> None:
        """Whether it may be in rotation, as far as its answers go."""
        ...


class WorkerLink(Upstream, Protocol):
    """The way to a worker."""

    def abandon(self, cause: str) -> None:
        """Break every attempt that is open there."""
        ...


class Examiner:
    """By which rules workers are asked, what is known, and who hears of it. `failed(replica, reason)` counts; `agreed` hears when a
    new answer is known."""

    def __init__(
        self,
        rules: CanaryRules,
        known: Known,
        clock: Clock,
        rng: Random,
        failed: Callable[[str, str], None],
        agreed: Callable[[dict[str, Said]], None] = lambda answers: None,
    ) -> None:
        self.rules = rules
        self._known = known
        self._clock = clock
        self._rng = rng
        self._failed = failed
        self._agreed = agreed

    def now(self) -> float:
        return self._clock.now()

    def later(self, look: Callable[[], None]) -> Timer:
        return self._clock.call_later(self.rules.timeout_s / LOOKS, look)

    def next_s(self) -> float:
        """When a worker that is well is asked again."""
        return self.now() + self.rules.interval_s * (1 + SPREAD * (2 * self._rng.random() - 1))

    def seed(self) -> int:
        return self._rng.getrandbits(SEED_BITS)

    def noise(self) -> float:
        return self._rng.random()

    def judge(self, asked: Asked, replica: Replica, said: Said) -> Finding:
        """Replicas whose logits depend on who else is in the batch are held to the first token only."""
        if asked.answer is not None:
            return Finding.RIGHT if said == asked.answer else Finding.WRONG
        before = len(self._known.agreed)
        compared = said if replica.exact else said[:1]
        finding = self._known.judge(replica.fingerprint, replica.id, compared)
        if len(self._known.agreed) != before:
            self._agreed(self._known.agreed)
        return finding

    def count(self, replica: Replica, reason: str) -> None:
        self._failed(replica.id, reason)

    def left(self, replica: Replica) -> None:
        """It is gone, and does not bear witness any more."""
        self._known.left(replica.fingerprint, replica.id)


class Visit:
    """One worker from its joining to its leaving."""

    def __init__(
        self, examiner: Examiner, replica: Replica, model: str, vocabulary: int, link: WorkerLink, seat: Seat,
        task: Task = Task.GENERATE,
    ) -> None:  # fmt: skip
        self.replica = replica
        self.reported: Load | None = None
        self._examiner = examiner
        self._model = model
        self._vocabulary = vocabulary
        self._link = link
        self._seat = seat
        self._task = task
        self._trust = Trust()
        self._stall = Stall()
        self._stalled_s = 0.0
        self._looked: Load | None = None
        self._abandoned = False
        self._last: Finding | None = None
        self._probe: Probe | None = None
        self._due_s = examiner.now()
        self._timer: Timer | None = None

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._probe is not None:
            self._over(self._probe, is_right=None)

    def look(self) -> None:
        """Judge what is there, ask if it is time to, and look again soon."""
        examiner, rules, now = self._examiner, self._examiner.rules, self._examiner.now()
        if not rules.interval_s:  # nobody is asked any more
            self.end()
            self._seat.trust(True)
            return
        self._timer = examiner.later(self.look)
        self._watch_steps(now)
        probe = self._probe
        if probe is not None and now >= probe.asked_s + rules.dead_s:
            self._over(probe, is_right=False)
        elif probe is not None and now >= probe.asked_s + rules.timeout_s and self._has_stepped_since(probe):
            probe.is_late = True
            self._found(Finding.LATE)
        if self._probe is None and (now >= self._due_s or self.replica.breaker.wants_probe(now)):
            self._ask(now)

    def answered(self, probe: Probe, said: Said) -> None:
        finding = self._examiner.judge(probe.asked, self.replica, said)
        self._over(probe, is_right=finding is Finding.RIGHT)
        if finding is Finding.RIGHT:
            self._due_s = self._examiner.next_s()
        self._found(finding)

    def broke(self, probe: Probe, cause: str, *, is_fault: bool) -> None:
        """The question came to no answer, which says nothing about what the answer would have been."""
        log.debug("worker %s left a canary question unanswered: %s", self.replica.id, cause)
        self._examiner.count(self.replica, UNANSWERED)
        self._over(probe, is_right=False if is_fault else None)

    # -- inside

    def _watch_steps(self, now: float) -> None:
        rules, load = self._examiner.rules, self.reported
        if load is None or load is self._looked:
            return  # no news; whether the worker is heard at all is the link's business
        self._looked = load
        if self._probe is not None and self._probe.steps is None:
            self._probe.steps = load.steps
        stalled_s = self._stall.look(now, load)
        was, self._stalled_s = self._stalled_s, stalled_s
        if not stalled_s:
            self._abandoned = False
            return
        limit_s = rules.timeout_s * (1 - 2 / LOOKS)
        if stalled_s >= limit_s and (self._trust.holds or was < limit_s):
            self._due_s = now
            self._found(Finding.SILENT)
        if stalled_s >= rules.dead_s and not self._abandoned:
            self._abandoned = True
            self._link.abandon(f"the engine of worker {self.replica.id} has made no step for {stalled_s:.0f} s")

    def _has_stepped_since(self, probe: Probe) -> bool:
        """The engine is alive although it does not answer, which is worth saying once for each question."""
        load = self._looked
        return not probe.is_late and load is not None and probe.steps is not None and load.steps != probe.steps

    def _ask(self, now: float) -> None:
        replica = self.replica
        asked = question(self._model, self._vocabulary, self._examiner.seed())
        work = _work(asked, self._task)
        call = Call(
            f"canary-{self._examiner.seed():012x}", self._model, "", "", False, now, Priority.INTERACTIVE, work=work
        )
        size = Size(1, work.cost)
        number = None if replica.breaker.is_closed else replica.breaker.began(now)
        steps = self.reported.steps if self.reported is not None else None
        probe = self._probe = Probe(self, asked, now, size, number, steps)
        self._due_s = now + RETRY_S
        replica.began(size)
        running = self._link.start(
            call, AS_TAKEOVER, ONE_CHOICE, frozenset(), self._examiner.rules.dead_s, probe
        )  # it may be over already
        probe.running = running

    def _over(self, probe: Probe, *, is_right: bool | None) -> None:
        """The question is no longer out. `is_right`: what that says about the worker, None for nothing."""
        if self._probe is not probe:
            return
        self._probe = None
        probe.cancel()
        replica, breaker, now = self.replica, self.replica.breaker, self._examiner.now()
        replica.left(probe.size)
        self._due_s = now + RETRY_S
        if probe.number is None:
            return
        if is_right is None:
            breaker.ended_neutrally(probe.number)
        elif is_right:
            breaker.succeeded(probe.number)
        else:
            breaker.failed(now, self._examiner.noise(), probe.number)

    def _found(self, finding: Finding) -> None:
        replica, trust = self.replica, self._trust
        held = trust.holds
        trust.found(finding)
        if finding in (Finding.WRONG, Finding.SILENT):
            self._examiner.count(replica, finding.value)
        if not trust.holds and (held or finding is not self._last):
            log.error("worker %s is not used: its canary is %s", replica.id, finding.value)
        elif trust.holds and finding is Finding.WRONG:
            log.warning("worker %s answers wrongly what has a known answer; it is asked once more", replica.id)
        elif trust.holds and not held:
            log.info("worker %s is used: its canary is %s", replica.id, finding.value)
        self._last = finding
        if trust.holds is not held:
            self._seat.trust(trust.holds)


def _work(asked: Asked, task: Task) -> Work:
    """A question as what this kind of worker can do: to go on with it, or to read it."""
    prompt = array("I", asked.prompt)
    if task is Task.GENERATE:
        return Work(prompt, TOKENS, 1, Sampling(temperature=0.0, seed=asked.seed, ignore_eos=True))
    return Work(array("I"), 0, 1, task=task, items=(Item(prompt, start=1),))
