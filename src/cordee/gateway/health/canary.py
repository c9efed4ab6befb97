"""Asks one worker, straight over its link, what has a known answer, and watches that its engine makes steps.

It does what `policy.canary` says: before a worker that joined is used, now and then, and instead of a caller's attempt when its
breaker may be tried again. A question takes no place in the queue and one sequence of the worker; a worker that cannot be believed
is taken out of rotation by its seat, and is asked on until it can.
"""

from __future__ import annotations

from cordee.domain.call import Task
from cordee.domain.replica import Load
from cordee.gateway.health.visit import Examiner, Seat, Visit, WorkerLink
from cordee.policy.route import Replica


class Canary:
    """One per worker and gateway."""

    def __init__(self, examiner: Examiner) -> None:
        self._examiner = examiner
        self._visit: Visit | None = None

    def joined(
        self, replica: Replica, model: str, vocabulary: int, link: WorkerLink, seat: Seat, task: Task = Task.GENERATE
    ) -> None:
        """A worker's link is up: it is asked at once, and until it has answered it is not used. `task`: what it can do."""
        self.left()
        if not self._examiner.rules.interval_s:
            seat.trust(True)
            return
        seat.trust(False)
        self._visit = Visit(self._examiner, replica, model, vocabulary, link, seat, task)
        self._visit.look()

    def left(self) -> None:
        """The link is down."""
        visit, self._visit = self._visit, None
        if visit is not None:
            visit.end()
            self._examiner.left(visit.replica)

    def load(self, load: Load) -> None:
        """What the worker reports."""
        if self._visit is not None:
            self._visit.reported = load
