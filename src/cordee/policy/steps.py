"""What is run in a step, of those who have a slot.

Every step runs all that decode; prompts share the rows (policy.rows) for which there is time (policy.allowance). For a prompt of a
higher class, every other step leaves out lower ones that decode.

The kernels go through the whole model once for each group of neighbouring slots with equally many rows. So a prompt whose slot lies
between two that decode has a row in every step: one row more costs less than the second pass that would be made around it. And where
a few who decode are faster one after the other than together, they are run so.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

from cordee.domain.call import Priority
from cordee.policy.allowance import Allowance
from cordee.policy.plan import Chunk, Limits
from cordee.policy.rows import share_rows
from cordee.policy.sequence import Sequence
from cordee.policy.stepcost import StepCost


class Steps:
    """Of one engine. `cost`: what its steps have taken."""

    __slots__ = ("_allowance", "_cost", "_is_without_lower")

    def __init__(self, cost: StepCost) -> None:
        self._cost = cost
        self._allowance = Allowance()
        self._is_without_lower = False  # the last step was

    def compose(self, running: Iterable[Sequence | None], limits: Limits) -> tuple[list[Chunk], bool]:
        """The next step's chunks in ascending order of slot, and whether they are to be run one after the other."""
        decoding: list[Sequence] = []
        prompts: list[Sequence] = []
        for sequence in running:
            if sequence is not None:
                (decoding if sequence.is_decoding else prompts).append(sequence)
        decoding, prompts = self._without_lower(decoding, prompts)
        chunks = [Chunk(one.key, one.slot, one.computed, 1, True) for one in decoding]
        apart = self._cost.is_faster_apart(len(decoding))
        seconds = self._allowance.of_step(len(decoding), prompts, limits, self._cost)
        if prompts:
            riding = [] if apart else _between(prompts, decoding)
            chunks += self._prompt_chunks(len(decoding), prompts, riding, seconds, limits)
            chunks.sort(key=attrgetter("slot"))
        if apart:
            self._cost.ran_apart(len(decoding))
        return chunks, apart

    def _without_lower(
        self, decoding: list[Sequence], prompts: list[Sequence]
    ) -> tuple[list[Sequence], list[Sequence]]:
        """Who is in the step. A prompt of a higher class than some that decode has every other step without them: its first token does
        not wait for theirs, and theirs come half as often at worst."""
        urgent = min((one.place for one in prompts), default=len(Priority))
        self._is_without_lower = not self._is_without_lower and any(one.place > urgent for one in decoding)
        if not self._is_without_lower:
            return decoding, prompts
        return [one for one in decoding if one.place <= urgent], [one for one in prompts if one.place == urgent]

    def _prompt_chunks(
        self, decoding: int, prompts: list[Sequence], riding: list[Sequence], seconds: float, limits: Limits
    ) -> list[Chunk]:
        """Rows of prompts that take so long beside those that decode, and of those `riding` one at least."""
        given = dict.fromkeys(riding, 1)
        if seconds > 0:
            shares = share_rows(prompts, decoding, seconds, limits, self._cost)
            given.update(shares)
            if decoding:
                took = [self._cost.prefill_s(one.computed, one.computed + count) for one, count in shares]
                self._allowance.spend(sum(took))
        return [_chunk(sequence, count) for sequence, count in given.items()]


def _between(prompts: list[Sequence], decoding: list[Sequence]) -> list[Sequence]:
    """Those of `prompts` whose slots lie between two that decode; `decoding` in ascending order of slot."""
    if not decoding:
        return []
    return [one for one in prompts if decoding[0].slot < one.slot < decoding[-1].slot]


def _chunk(sequence: Sequence, count: int) -> Chunk:
    start = sequence.computed
    end = start + count
    if sequence.scored_from is None:
        return Chunk(sequence.key, sequence.slot, start, count, end == sequence.length)
    return Chunk(sequence.key, sequence.slot, start, count, False, end - max(start, min(sequence.scored_from, end)))
