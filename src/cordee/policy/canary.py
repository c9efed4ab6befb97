"""Decides whether a worker can be believed: it is asked now and then what has a known answer, and its engine must make steps.

A process that answers its health check may have a dead engine; one whose engine runs may say something else than its model would
(a corrupted weight, a broken kernel, bad memory). Neither is seen by counting errors. So trust is earned at the join by one right
answer, lost by two wrong ones in a row (one, before the first right one), and by silence; and earned again the same way.

What is right needs no oracle: two replicas of one fingerprint that say the same are believed, as is, for want of better, the only
one there is. With disagreement and no third voice the one that came first keeps its place.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from enum import Enum

from cordee.domain.record import record
from cordee.domain.replica import Load
from cordee.policy import oracle

TOKENS = 8  # of an answer: enough that no two models share them by chance
ORACLE = "oracle"  # the model whose answers are computed here
PERIODS = 4  # of the pattern in the prompt: whoever can copy a pattern at all goes on with it, so the answer is not a close call
PATTERN = (
    3,
    5,
    7,
    11,
)  # fractions of the vocabulary whose tokens make the pattern: from its middle, where ordinary ones are
RETRY_S = 0.5  # after anything but a right answer
WRONG_MAX = 2  # in a row: one could be the bit that a cosmic ray turned
FINGERPRINTS_MAX = 64  # whose answers are remembered

Said = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CanaryRules:
    """Every `interval_s` (0: never) a worker is asked. With work to do and no step for `timeout_s` its engine counts as dead, and
    after `dead_s` what it was answering goes on elsewhere."""

    interval_s: float = 15.0
    timeout_s: float = 2.0
    dead_s: float = 20.0


def words_of(vector: bytes) -> Said:
    """What 32-bit floats say: first the place of the largest one, which is the same for whoever computes them a little otherwise,
    then the first ones to the last bit."""
    values = array("f", vector)
    largest = max(range(len(values)), key=lambda at: abs(values[at]), default=0)
    return (largest, *array("I", vector)[: TOKENS - 1])


class Finding(Enum):
    """What one look at a worker found."""

    RIGHT = "right"
    WRONG = "wrong"  # it answered something else
    SILENT = "silent"  # it has work to do and makes no steps
    LATE = "late"  # no answer in time, but it makes steps: it is busy


def prompt(vocabulary: int) -> tuple[int, ...]:
    """The token ids that every model is asked to go on with."""
    return tuple(vocabulary // part for part in PATTERN) * PERIODS


def oracle_answer(seed: int) -> Said:
    """What the oracle says to any prompt."""
    return tuple(oracle.token_at(seed, index) for index in range(TOKENS))


class Known:
    """What the answer of each fingerprint is: computed, agreed on by two replicas, or the only one's word."""

    def __init__(self, agreed: dict[str, Said] | None = None) -> None:
        self.agreed: dict[str, Said] = dict(agreed or {})
        self._words: dict[str, dict[str, Said]] = {}  # by fingerprint and replica

    def judge(self, fingerprint: str, replica: str, said: Said) -> Finding:
        """Whether `replica` said what is right. A word that agrees with another replica's makes that the known answer."""
        known = self.agreed.get(fingerprint)
        if known is not None:
            return Finding.RIGHT if said == known else Finding.WRONG
        words = self._words.setdefault(fingerprint, {})
        if any(word == said for other, word in words.items() if other != replica):
            self._agree(fingerprint, said)
            return Finding.RIGHT
        if replica not in words:
            words[replica] = said
        first = next(iter(words.values()))
        return Finding.RIGHT if said == words[replica] == first else Finding.WRONG

    def left(self, fingerprint: str, replica: str) -> None:
        """A replica is gone, and with it its word: the process that follows it may be a sounder one."""
        words = self._words.get(fingerprint)
        if words is not None:
            words.pop(replica, None)
            if not words:
                del self._words[fingerprint]

    def _agree(self, fingerprint: str, said: Said) -> None:
        while len(self.agreed) >= FINGERPRINTS_MAX:
            del self.agreed[next(iter(self.agreed))]
        self.agreed[fingerprint] = said
        del self._words[fingerprint]


class Trust:
    """How far one worker is believed since it joined."""

    __slots__ = ("_proven", "_wrongs", "holds")

    def __init__(self) -> None:
        self.holds = False
        self._proven = False
        self._wrongs = 0

    def found(self, finding: Finding) -> None:
        """A look at it is over."""
        match finding:
            case Finding.RIGHT:
                self.holds = self._proven = True
                self._wrongs = 0
            case Finding.WRONG:
                self._wrongs += 1
                if not self._proven or self._wrongs >= WRONG_MAX:
                    self.holds = self._proven = False
            case Finding.SILENT:
                self.holds = False
            case Finding.LATE:
                # One that nobody has found fault with yet is taken at its word while all its slots are busy.
                self.holds = self.holds or not self._wrongs


class Stall:
    """Whether an engine makes steps. `since_s`: since when it has had work and made none; None while it is well."""

    __slots__ = ("_steps", "since_s")

    def __init__(self) -> None:
        self._steps = -1
        self.since_s: float | None = None

    def look(self, now: float, load: Load) -> float:
        """How long it has been stalled, in seconds."""
        if load.steps != self._steps or not (load.running or load.waiting):
            self._steps = load.steps
            self.since_s = None
            return 0.0
        if self.since_s is None:
            self.since_s = now
        return now - self.since_s


@record
class Asked:
    """What a worker is to be asked, and what the known answer is; None: `Known` judges it."""

    prompt: tuple[int, ...]
    seed: int
    answer: Said | None


def question(model: str, vocabulary: int, number: int) -> Asked:
    """Number `number` of the questions to a model. The oracle is asked another one each time, a model always the same."""
    if model == ORACLE:
        return Asked(prompt(vocabulary), number, oracle_answer(number))
    return Asked(prompt(vocabulary), 0, None)
