"""One kept answer: its ring, what it weighs, and who listens to it.

Rows are kept as the link sends them, so that to give them again is to copy bytes and change the name in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cordee.engine.job import ROWS, Emission, JobName, Tokens
from cordee.link.frames import ROW, LogprobRow

KEPT_BYTES = 2048  # what an answer weighs beside its rows: its records, its names and its place in the tables
LOGPROB_BYTES, ALTERNATIVE_BYTES = (
    320,
    136,
)  # of CPython's tuples and numbers, for one token and for each alternative to it


@dataclass(eq=False, slots=True)
class Listener:
    """An attempt of a gateway that hears a kept answer. `at`: rows it has had; None: all so far, it hears the next one live."""

    name: JobName
    kept: Kept
    at: int | None


@dataclass(eq=False, slots=True)
class Kept:
    """One answer. `left` choices are not complete; `cost`: tokens of cache that one of them may come to occupy.

    `rows` is its ring; None: it was given up for lack of room, and only those who listen live hear the rest. `extra` is what it
    weighs beside them, and `is_weighed` whether it counts at all. `spoiled`: it ended as no answer should and is not given to
    anybody again.
    """

    handle: int
    tenant: str
    call: str
    choices: tuple[int, ...]
    left: int
    cost: int
    rows: bytearray | None
    logprobs: dict[tuple[int, int], LogprobRow] = field(default_factory=dict)
    listeners: list[Listener] = field(default_factory=list)
    extra: int = KEPT_BYTES
    is_weighed: bool = True
    since_s: float = 0.0  # when it ended, or lost its last listener
    spoiled: bool = False

    def noted(self, row: LogprobRow) -> int:
        """Keep the log-probabilities of one token; the bytes they weigh."""
        size = LOGPROB_BYTES + ALTERNATIVE_BYTES * len(row[4])
        self.logprobs[row[1], row[2]] = row
        self.extra += size
        return size

    def part(self, listener: Listener, rows_max: int) -> Part:
        """What `listener`, which has not heard all, hears next: `rows_max` rows at most."""
        ring, (number, handle) = self.rows, listener.name
        assert ring is not None, "what was given up is not told again"
        assert listener.at is not None, "who hears live is not behind"
        end = min(len(ring), (listener.at + rows_max) * ROW.size)
        rows = np.frombuffer(bytes(ring[listener.at * ROW.size : end]), ROWS).copy()
        logprobs: list[tuple[int, LogprobRow]] = []
        if self.logprobs:
            for _, choice, finish, index, _ in rows.tolist():
                report = None if finish else self.logprobs.get((choice, index))
                if report is not None:
                    logprobs.append((number, (handle, *report[1:])))
        rows["handle"] = handle
        more = end < len(ring)
        listener.at = end // ROW.size if more else None
        return Part(Emission(np.full(len(rows), number, np.uint32), rows, logprobs), more)

    def weight(self) -> int:
        """Its bytes, rows included."""
        return self.extra + len(self.rows or ())


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that a listener has not had yet, addressed to it. `more`: there are others behind them."""

    emission: Emission
    more: bool


def rows_of(choices: tuple[int, ...], outputs: Sequence[Tokens]) -> bytearray:
    """What was said before this worker took over, as the rows it would have sent."""
    ring = bytearray()
    for choice, output in zip(choices, outputs, strict=True):
        rows = np.zeros(len(output), ROWS)
        rows["choice"], rows["index"], rows["token"] = choice, np.arange(len(output)), output
        ring += rows.tobytes()
    return ring
