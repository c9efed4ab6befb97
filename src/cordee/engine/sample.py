"""Which token comes next, given logits. No generator state: the noise is a function of (seed, position).

Rows that are greedy and unaltered cost one argmax over the whole matrix; only rows that ask for more get work of their
own. Order: log-probabilities of the model's own distribution, then bans and what a grammar does not allow, bias and penalties on
the logits, temperature, min_p, top_k, top_p (each on what the one before left), then one draw by inverting the cumulative
distribution.

Presence and frequency count the tokens of the answer; repetition, as introduced by CTRL (Keskar et al., 2019), those of
the prompt too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cordee.domain.call import Sampling
from cordee.domain.chunk import TokenLogprobs
from cordee.engine.constrain import Constraint, ConstraintError
from cordee.engine.job import Tokens
from cordee.policy.noise import uniform

BLOCK = 256  # the cumulative sum is taken over blocks first and inside one block then: a fraction of the additions
NEVER = np.float32(-np.inf)
TEMPERATURE_MIN = 1e-30  # what float32 can still divide by

Row = NDArray[np.float32]
Matrix = NDArray[np.float32]


class Voice:
    """How one sequence samples: its parameters and what it has said. `constraint`: the grammar it is held to, which knows what has
    been said already; None: none."""

    __slots__ = (
        "altered", "bias_ids", "bias_values", "constraint", "counts", "greedy", "plain", "prompt", "sampling", "seed",
    )  # fmt: skip

    def __init__(self, sampling: Sampling, seed: int, prompt: Tokens, output: Tokens) -> None:
        self.sampling = sampling
        self.seed = seed
        self.greedy = sampling.temperature == 0
        self.bias_ids: NDArray[np.int64] = np.array([token for token, _ in sampling.logit_bias], np.int64)
        self.bias_values: Row = np.array([value for _, value in sampling.logit_bias], np.float32)
        self.altered = bool(
            sampling.logit_bias
            or sampling.repetition_penalty != 1
            or sampling.presence_penalty
            or sampling.frequency_penalty
        )
        self.plain = self.greedy and not self.altered and sampling.logprobs is None
        self.prompt: NDArray[np.int64] | None = None
        self.counts: dict[int, int] = {}
        self.constraint: Constraint | None = None
        if sampling.repetition_penalty != 1:
            self.prompt = np.unique(prompt).astype(np.int64)
        for token in output.tolist():
            self._count(token)

    def said(self, token: int) -> None:
        """The sequence has emitted `token`."""
        self._count(token)
        if self.constraint is not None:
            self.constraint.said(token)

    @property
    def is_complete(self) -> bool:
        """Its grammar allows nothing more."""
        return self.constraint is not None and self.constraint.is_complete

    def _count(self, token: int) -> None:
        if self.altered:
            self.counts[token] = self.counts.get(token, 0) + 1

    def alter(self, row: Row) -> None:
        """Bias and penalties, in place."""
        sampling = self.sampling
        if len(self.bias_ids):
            np.add.at(row, self.bias_ids, self.bias_values)
        ids = np.fromiter(self.counts.keys(), np.int64, len(self.counts))
        if self.prompt is not None:
            seen = np.union1d(self.prompt, ids)
            values = row[seen]
            penalty = np.float32(sampling.repetition_penalty)
            row[seen] = np.where(values > 0, values / penalty, values * penalty)
        if len(ids) and (sampling.presence_penalty or sampling.frequency_penalty):
            counts = np.fromiter(self.counts.values(), np.float32, len(self.counts))
            row[ids] -= np.float32(sampling.presence_penalty) + np.float32(sampling.frequency_penalty) * counts


@dataclass(frozen=True, slots=True)
class Draw:
    """The next token of one sequence. `token` is −1 where nothing can be drawn: `why`, or because the logits are not numbers."""

    token: int
    logprobs: TokenLogprobs | None = None
    why: str = ""


class Sampler:
    """Draws for the rows of a step. `ends` are the token ids that end an answer."""

    def __init__(self, vocabulary: int, ends: Sequence[int]) -> None:
        self._ends: NDArray[np.int64] = np.array(sorted(ends), np.int64)
        padded = -(-vocabulary // BLOCK) * BLOCK
        self._weights: Row = np.zeros(padded, np.float32)
        self._vocabulary = vocabulary

    def draw(self, logits: Matrix, voices: Sequence[Voice], positions: Sequence[int]) -> list[Draw]:
        """One draw per row of `logits`, which is altered. `positions[i]` is the index of the output token to draw."""
        reports = [
            _Distribution(logits[i].copy(), voice.sampling.logprobs) if voice.sampling.logprobs is not None else None
            for i, voice in enumerate(voices)
        ]
        self._ban(logits, voices, positions)
        held = [i for i, voice in enumerate(voices) if voice.constraint is not None]
        settled = self._hold(logits, voices, held) if held else {}
        if all(voice.plain for voice in voices):
            best = logits.argmax(axis=1)
            fine = np.isfinite(logits[np.arange(len(voices)), best])  # argmax of a row with a NaN is that NaN
            draws = [Draw(token) for token in np.where(fine, best, -1).tolist()]
        else:
            draws = self._draws(logits, voices, positions, reports)
        for i, draw in settled.items():
            draws[i] = draw
        return draws

    def _draws(
        self, logits: Matrix, voices: Sequence[Voice], positions: Sequence[int], reports: Sequence[_Distribution | None]
    ) -> list[Draw]:
        tokens = [-1] * len(voices)
        for i, voice in enumerate(voices):
            row = logits[i]
            if voice.altered:
                voice.alter(row)
            tokens[i] = _likeliest(row) if voice.greedy else self._draw(row, voice, positions[i])
        return [
            Draw(token, None if report is None or token < 0 else report.of(token))
            for token, report in zip(tokens, reports, strict=True)
        ]

    def _ban(self, logits: Matrix, voices: Sequence[Voice], positions: Sequence[int]) -> None:
        """Take the ends of an answer from those that must not end yet."""
        banned = [
            i for i, voice in enumerate(voices) if voice.sampling.ignore_eos or positions[i] < voice.sampling.min_tokens
        ]
        if len(self._ends):
            for i in banned:
                logits[i, self._ends] = NEVER

    def _hold(self, logits: Matrix, voices: Sequence[Voice], held: Sequence[int]) -> dict[int, Draw]:
        """Take from those that are held to a grammar what it does not allow. The draws of those about which that decides all: the
        answer has to end, or the grammar has become too much."""
        settled: dict[int, Draw] = {}
        for i in held:
            constraint = voices[i].constraint
            assert constraint is not None
            try:
                if not constraint.mask(logits[i]):
                    settled[i] = Draw(constraint.end)
            except ConstraintError as error:
                settled[i] = Draw(-1, why=str(error))
        return settled

    def _draw(self, row: Row, voice: Voice, position: int) -> int:
        sampling = voice.sampling
        top = row.max()
        if not np.isfinite(top):
            return -1
        u = uniform(voice.seed, position)
        if sampling.top_k <= 0 and sampling.top_p >= 1 and sampling.min_p <= 0:
            return self._draw_any(row, top, sampling.temperature, u)
        ids, mass = _candidates(row, top, sampling)
        cumulative = np.cumsum(_weights(row[ids], top, sampling.temperature), dtype=np.float64)
        if sampling.top_p < 1:
            nucleus = int(np.searchsorted(cumulative, sampling.top_p * (mass or cumulative[-1]))) + 1
            cumulative = cumulative[:nucleus]
        return int(ids[_clamped(cumulative, u * float(cumulative[-1]))])

    def _draw_any(self, row: Row, top: np.float32, temperature: float, u: float) -> int:
        """A draw from the whole vocabulary."""
        weights = self._weights
        weights[: self._vocabulary] = _weights(row, top, temperature)
        blocks = np.cumsum(weights.reshape(-1, BLOCK).sum(axis=1), dtype=np.float64)
        target = u * blocks[-1]
        block = min(int(np.searchsorted(blocks, target, side="right")), len(blocks) - 1)
        before = blocks[block - 1] if block else 0.0
        inside = np.cumsum(weights[block * BLOCK : (block + 1) * BLOCK], dtype=np.float64)
        return block * BLOCK + _clamped(inside, target - before)


def _likeliest(row: Row) -> int:
    best = int(row.argmax())
    return best if np.isfinite(row[best]) else -1


class _Distribution:
    """The model's own log-probabilities at one position, kept before anything alters the logits."""

    __slots__ = ("_best", "_logits", "_total")

    def __init__(self, logits: Row, alternatives: int) -> None:
        self._logits = logits
        top = logits.max()
        self._total = float(top) + math.log(float(np.exp(logits - top).sum(dtype=np.float64)))
        self._best = _largest(logits, alternatives)

    def of(self, token: int) -> TokenLogprobs:
        chosen = float(self._logits[token]) - self._total
        return TokenLogprobs(chosen, tuple((int(i), float(self._logits[i]) - self._total) for i in self._best))


def _weights(logits: Row, top: np.float32, temperature: float) -> Row:
    """Probabilities up to a factor: the likeliest has 1."""
    with np.errstate(over="ignore"):  # next to zero temperature all but the likeliest go to −∞, as they should
        scaled: Row = (logits - top) / np.float32(max(temperature, TEMPERATURE_MIN))
    return np.exp(scaled, out=scaled)


def _candidates(row: Row, top: np.float32, sampling: Sampling) -> tuple[NDArray[np.int64], float | None]:
    """The ids that min_p and top_k leave, likeliest first, equals by id, and their mass if that is not just theirs.

    For top_p alone: tokens of less than (1 − top_p) / size of the mass have less than 1 − top_p of it together, so the
    nucleus is among the others: a few hundred to sort instead of the vocabulary, and the mass is that of all.
    """
    mass: float | None = None
    if sampling.min_p > 0:
        floor = math.log(min(sampling.min_p, 1.0)) * sampling.temperature
        ids = np.flatnonzero(row >= top + np.float32(floor))
    elif sampling.top_k > 0:
        return _largest(row, sampling.top_k), None
    else:
        weights = _weights(row, top, sampling.temperature)
        mass = float(weights.sum(dtype=np.float64))
        ids = np.flatnonzero(weights >= mass * (1 - sampling.top_p) / len(row))
    ids = ids[np.lexsort((ids, -row[ids]))]
    return (ids[: sampling.top_k] if sampling.top_k > 0 else ids), mass


def _largest(row: Row, count: int) -> NDArray[np.int64]:
    """The ids of the `count` largest, largest first, equals by id."""
    count = min(count, len(row))
    if count <= 0:
        return np.empty(0, np.int64)
    bound = np.partition(row, len(row) - count)[len(row) - count]
    ids = np.flatnonzero(row >= bound)
    return ids[np.lexsort((ids, -row[ids]))][:count]


def _clamped(cumulative: NDArray[np.float64], target: float) -> int:
    """The first index whose cumulative weight exceeds `target`. Rounding may put the target past the end, or on a
    weight of zero there: then it is the last that has any weight."""
    at = int(np.searchsorted(cumulative, target, side="right"))
    if at < len(cumulative):
        return at
    return int(np.searchsorted(cumulative, cumulative[-1], side="left"))
