"""One choice of one job as the step loop keeps it, and what the loop has to say after a step."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cordee.domain.call import Item
from cordee.domain.chunk import Finish
from cordee.engine.job import Emission, Job, JobName, RowEntry, Tokens, emission
from cordee.engine.sample import Voice
from cordee.engine.score import Scores
from cordee.link.frames import LogprobRow


class Choice:
    """One choice of one job: a sequence of the planner. `is_first`: it speaks for the prompt of its job. `scores`: of an item that is
    to be scored, for its tokens from `item.start` on; not a number while they are not known."""

    __slots__ = ("choice", "count", "ids", "is_first", "item", "job", "known", "scores", "voice")

    def __init__(self, job: Job, choice: int, output: Tokens, ids: Tokens, known: int) -> None:
        self.job = job
        self.choice = choice
        self.ids = ids  # prompt and answer, with room for all that may come
        self.known = known
        self.count = len(output)
        self.is_first = not job.items and choice == job.choices[0]
        self.item: Item | None = None
        self.scores: Scores | None = None
        self.voice = Voice(job.sampling, job.sampling.seed + choice, job.prompt, output)
        if job.constraints:
            self.voice.constraint = job.constraints[job.choices.index(choice)]

    @classmethod
    def of_item(cls, job: Job, choice: int) -> Choice:
        """An item that is to be scored. All of its tokens are known."""
        item = job.items[choice]
        ids: Tokens = np.array(item.tokens, np.int32)
        scored = cls(job, choice, ids[:0], ids, len(ids))
        scored.item = item
        scored.scores = np.full(len(ids) - item.start, np.nan, np.float32)
        return scored

    def note_scores(self, start: int, found: Scores) -> None:
        """What the logits of the rows from `start` on say of the tokens behind them."""
        assert self.item is not None
        assert self.scores is not None
        at = start + 1 - self.item.start
        self.scores[at : at + len(found)] = found

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
