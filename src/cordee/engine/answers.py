"""What is being answered: jobs become sequences of the planner, and what a step gave becomes what their gateways are told.

Every sequence ends here, exactly once: complete, cancelled, too late, or failed with its job.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np

from cordee.domain.chunk import Finish
from cordee.engine.choice import Choice, Pending
from cordee.engine.figures import Counts
from cordee.engine.job import Job, JobName, Tokens
from cordee.engine.runner import Runner
from cordee.engine.sample import Draw, Matrix
from cordee.engine.score import log_probabilities
from cordee.policy.batch import OUTPUT_WEIGHT, Chunk, Entry, Planner


class Answers:
    """Those that are open, by the planner's keys. `ends`: tokens that end an answer; `context`: the most tokens of a sequence.
    `isolates`: tenants do not share what was computed of their prompts. `adapted` of the choices want an adapter."""

    def __init__(
        self,
        planner: Planner,
        runner: Runner,
        ends: frozenset[int],
        context: int,
        now: Callable[[], float],
        counts: Counts,
        *,
        isolates: bool,
    ) -> None:
        self._planner = planner
        self._runner = runner
        self._ends = ends
        self._context = context
        self._now = now
        self._counts = counts
        self.isolates = isolates
        self._jobs: dict[JobName, list[int]] = {}
        self._keys = 0
        self.choices: dict[int, Choice] = {}
        self.pending = Pending()
        self.adapted = 0

    def begin(self, job: Job) -> None:
        """Its choices, or items, are sequences of the planner from now on."""
        if job.items:
            for choice in job.choices:
                self._begin_item(job, choice)
            return
        like: int | None = None
        for choice, output in zip(job.choices, job.outputs, strict=True):
            known = len(job.prompt) + len(output)
            most = min(self._context, len(job.prompt) + job.max_tokens)
            ids: Tokens = np.empty(max(known, most), np.int32)
            ids[: len(job.prompt)] = job.prompt
            ids[len(job.prompt) : known] = output
            sequence = Choice(job, choice, output, ids, known)
            if known >= most:
                self.pending.rows.append(sequence.row(Finish.LENGTH, 0))
                continue
            self._add(sequence, known, int(known + OUTPUT_WEIGHT * (most - known)), like)
            like = self._keys if like is None else like
        self._counts.prompt_tokens += len(job.prompt)

    def _begin_item(self, job: Job, choice: int) -> None:
        sequence = Choice.of_item(job, choice)
        rows = sequence.known - 1  # behind the last token there is nothing to be scored
        if sequence.scores is None or sequence.item is None or rows < 1 or sequence.item.start > rows:
            self._tell_scores(sequence)
            return
        self._counts.prompt_tokens += sequence.known
        self._add(sequence, rows, rows, None, max(0, sequence.item.start - 1))

    def _add(self, choice: Choice, known: int, cost: int, like: int | None, scored_from: int | None = None) -> None:
        job = choice.job
        self._keys = key = self._keys + 1
        self.choices[key] = choice
        self._jobs.setdefault(job.name, []).append(key)
        self.adapted += bool(job.adapter)
        tokens = choice.ids.data.cast("B")
        self._planner.add(
            Entry(
                key, known, job.priority, job.deadline_s, tokens, job.tenant, self._scope(job), like, cost, scored_from
            ),
            self._now(),
        )

    def _scope(self, job: Job) -> Hashable:
        """Who may use what is computed of this job: where nothing is kept, only its own choices."""
        if not self._planner.limits.keeps_prefixes:
            return job.name, self._jobs[job.name][0]
        return job.adapter, job.cache_salt, job.tenant if self.isolates else ""

    def cancel(self, name: JobName) -> None:
        """Nobody waits for it any more. A job that is complete is not an error."""
        for key in self._jobs.pop(name, ()):
            self._forget(key)
        self.pending.cancelled.append(name)

    # -- ends

    def _forget(self, key: int, *, keeps: bool = True) -> None:
        """A sequence is over. `keeps`: what its slot holds is sound, and may be used by others."""
        choice = self.choices.pop(key)
        self.adapted -= bool(choice.job.adapter)
        slot = self._planner.remove(key, keeps=keeps)
        if slot is not None:
            self._runner.cut(slot, 0)
        self._runner.drop(key)

    def end(self, key: int, why: Finish) -> None:
        """A choice is complete; the others of its job go on."""
        choice = self.choices[key]
        self.pending.rows.append(choice.row(why, 0))
        keys = self._jobs[choice.job.name]
        keys.remove(key)
        if not keys:
            del self._jobs[choice.job.name]
        self._forget(key)

    def fail(self, key: int, why: str) -> None:
        """A choice cannot be computed, which ends its job: the others are forgotten without a word."""
        choice = self.choices[key]
        name = choice.job.name
        self.pending.rows.append(choice.row(Finish.FAILED, 0))
        self.pending.failures.append((name, why))
        for other in self._jobs.pop(name):
            self._forget(other, keeps=False)

    # -- what is found of them

    def reused(self, key: int, tokens: int) -> None:
        """So many tokens of it were found computed."""
        choice = self.choices[key]
        if choice.is_first:
            found = min(tokens, len(choice.job.prompt))
            self._counts.cached_tokens += found
            self.pending.cached.append((choice.job.name, found))
        elif choice.item is not None:
            self._counts.cached_tokens += tokens

    def score(self, chunk: Chunk, logits: Matrix) -> None:
        """Note what the logits of a chunk's last rows say; the item is complete when its last row has run."""
        choice = self.choices[chunk.key]
        end = chunk.start + chunk.count
        first = end - chunk.scored
        found = log_probabilities(logits, choice.ids[first + 1 : end + 1])
        if not np.isfinite(found).all():
            self.fail(chunk.key, f"the logits of item {choice.choice} are not finite numbers")
            return
        choice.note_scores(first, found)
        if end == choice.known - 1:
            self._tell_scores(choice, chunk.key)

    def _tell_scores(self, choice: Choice, key: int | None = None) -> None:
        """What was found of an item, then that it is complete."""
        assert choice.scores is not None
        self.pending.results.append((choice.job.name, choice.choice, choice.scores.tobytes()))
        if key is None:
            self.pending.rows.append(choice.row(Finish.STOP, 0))
        else:
            self.end(key, Finish.STOP)

    def say(self, key: int, choice: Choice, draw: Draw) -> None:
        """A sequence has its next token, or its end."""
        token = draw.token
        if token < 0:
            self.fail(key, draw.why or f"the logits of output token {choice.count} are not finite numbers")
            return
        if token in self._ends:
            self.end(key, Finish.STOP)
            return
        pending = self.pending
        pending.rows.append(choice.row(Finish.NONE, token))
        if draw.logprobs is not None:
            connection, handle = choice.job.name
            alternatives = list(draw.logprobs.alternatives)
            pending.logprobs.append(
                (connection, (handle, choice.choice, choice.count, draw.logprobs.chosen, alternatives))
            )
        choice.ids[choice.known] = token
        choice.known += 1
        choice.count += 1
        choice.voice.said(token)
        if choice.voice.is_complete:
            self.end(key, Finish.STOP)
            return
        if choice.known == len(choice.ids):
            self.end(key, Finish.LENGTH)
            return
        self._planner.extend(key)
