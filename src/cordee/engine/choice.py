"""One choice of one job as the step loop keeps it, and what the loop has to say after a step."""

from __future__ import annotations

from dataclasses import dataclass, field

from cordee.domain.chunk import Finish
from cordee.engine.job import Emission, Job, JobName, RowEntry, Tokens, emission
from cordee.engine.sample import Voice
from cordee.link.frames import LogprobRow


class Choice:
    """One choice of one job: a sequence of the planner."""

    __slots__ = ("choice", "count", "ids", "job", "known", "voice")

    def __init__(self, job: Job, choice: int, output: Tokens, ids: Tokens, known: int) -> None:
        self.job = job
        self.choice = choice
        self.ids = ids  # prompt and answer, with room for all that may come
        self.known = known
        self.count = len(output)
        self.voice = Voice(job.sampling, job.sampling.seed + choice, job.prompt, output)

    def row(self, finish: Finish, token: int) -> RowEntry:
        connection, handle = self.job.name
        return connection, handle, self.choice, finish, self.count, token


@dataclass(slots=True)
class Pending:
    """What the next emission will hold."""

    rows: list[RowEntry] = field(default_factory=list)
    logprobs: list[tuple[int, LogprobRow]] = field(default_factory=list)
    failures: list[tuple[JobName, str]] = field(default_factory=list)
    cancelled: list[JobName] = field(default_factory=list)
    cached: list[tuple[JobName, int]] = field(default_factory=list)
    results: list[tuple[JobName, int, bytes]] = field(default_factory=list)

    def take(self) -> Emission | None:
        """Everything since the last time; None where there is nothing."""
        if not (self.rows or self.failures or self.cancelled or self.cached):
            return None
        taken = emission(self.rows, self.logprobs, self.failures, self.cancelled, self.cached, self.results)
        self.rows, self.logprobs, self.failures, self.cancelled = [], [], [], []
        self.cached, self.results = [], []
        return taken
