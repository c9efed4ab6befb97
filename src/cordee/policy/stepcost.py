"""What a step costs here, learnt from the steps that were made, and with it how much of a prompt fits beside those that decode.

A step that decodes for n sequences takes a time that depends on n; each row of a prompt adds to it, and the further back it has
to look, the more. Both are kept as moving means: by n, from steps that only decode, and by the position of the row, from what
other steps took beyond that. The two cannot be told apart while every step does both, so now and then one has to be made without
prompts. Whoever bounds steps by what decoding alone takes has a bound that holds on any machine, and nobody has to know how fast
this one is.
"""

from __future__ import annotations

from collections.abc import Sequence

WEIGHT = 0.2  # of a new step in a moving mean: a change of pace is believed after some ten steps
POSITIONS = 512  # positions in a row that are taken to cost the same
ROW_S_FIRST = 0.001  # before any was measured; what a small model takes on two cores
ROWS_SHARE_MIN = 0.05  # of a step with prompts: what rows take at least, whatever decoding alone is thought to take
LOOK_EVERY = 16  # steps with prompts before one without: the price of knowing is a sixteenth of their pace
SURPRISE_MAX = 4.0  # times what was expected: a step that took longer met a neighbour, and says little about the next
APART_MAX = 4  # sequences: more than so many are never faster in passes of their own
APART_GAIN_MIN = 0.1  # of the time, so that noise does not make them change between the two
APART_DOUBT = (
    0.999  # of what a step together was known to take remains with each one apart: it is tried again after some hundred
)
MOVED_BYTES_PER_S_FIRST = 1e9  # memory that is touched for the first time; warm memory is ten times as fast


class StepCost:
    """Seconds of steps, rows and moved bytes, as measured lately."""

    __slots__ = ("_decode_s", "_mixed", "_moved_per_s", "_row_s")

    def __init__(self) -> None:
        self._decode_s: dict[int, float] = {}  # by how many decode
        self._row_s: dict[int, float] = {}  # by position // POSITIONS
        self._mixed = 0  # steps with prompts since one that only decoded
        self._moved_per_s = MOVED_BYTES_PER_S_FIRST

    def wants_look(self) -> bool:
        """Whether a step that only decodes is due, to know what that takes."""
        return not self._decode_s or self._mixed >= LOOK_EVERY

    def is_faster_apart(self, sequences: int) -> bool:
        """Whether so many decode faster one after the other than in one pass. Some kernels work on single rows with one method and on
        several with another, which reads the weights in an order that memory serves more slowly: then two rows take three times as
        long as one, and sixteen not ten times."""
        together_s, alone_s = self._decode_s.get(sequences), self._decode_s.get(1)
        if not 1 < sequences <= APART_MAX or not together_s or not alone_s:
            return False
        return sequences * alone_s < (1 - APART_GAIN_MIN) * together_s

    def ran_apart(self, sequences: int) -> None:
        """So many decoded one after the other: what is known of them together grows old."""
        self._decode_s[sequences] *= APART_DOUBT

    def decode_s(self, sequences: int) -> float:
        """A step in which so many decode and nothing else runs; 0 while none was seen."""
        if self.is_faster_apart(sequences):
            return sequences * self._decode_s[1]
        known = self._decode_s.get(sequences)
        if known is not None or not self._decode_s:
            return known or 0.0
        nearest = min(self._decode_s, key=lambda seen: abs(seen - sequences))
        return self._decode_s[nearest] * max(1.0, sequences / nearest)

    def row_s(self, position: int) -> float:
        """One row of a prompt at this position."""
        at = position // POSITIONS
        known = self._row_s.get(at)
        if known is not None:
            return known
        if not self._row_s:
            return ROW_S_FIRST
        return self._row_s[min(self._row_s, key=lambda seen: abs(seen - at))]

    def rows_in(self, seconds: float, position: int, most: int) -> int:
        """How many rows from this position on fit into that time, `most` at most."""
        rows = 0
        while rows < most and seconds > 0:
            each = self.row_s(position + rows)
            part = min(most - rows, POSITIONS - (position + rows) % POSITIONS)
            fit = min(part, int(seconds / each))
            rows += fit
            seconds -= fit * each
            if fit < part:
                break
        return rows

    def prefill_s(self, start: int, end: int) -> float:
        """The rows of a prompt from `start` to before `end`."""
        total = 0.0
        while start < end:
            part = min(end, (start // POSITIONS + 1) * POSITIONS)
            total += (part - start) * self.row_s(start)
            start = part
        return total

    def moved_s(self, size: int) -> float:
        """So many bytes of cache, to or from somewhere else."""
        return size / self._moved_per_s

    def note_step(self, decoding: int, prompts: Sequence[tuple[int, int]], took_s: float) -> None:
        """A step in which `decoding` sequences ran one row, and prompts rows (start, count), took so long."""
        if took_s <= 0:
            return
        if not prompts:
            self._mixed = 0
            known_s = self._decode_s.get(decoding, took_s)
            self._decode_s[decoding] = known_s + WEIGHT * (min(took_s, SURPRISE_MAX * known_s) - known_s)
            return
        decode_s = 0.0
        if decoding:
            self._mixed += 1
            decode_s = self.decode_s(decoding)
            if not decode_s:
                return  # nothing is known of either
        rows_s = max(took_s - decode_s, ROWS_SHARE_MIN * took_s)
        expected_s = sum(self.prefill_s(start, start + count) for start, count in prompts)
        factor = rows_s / expected_s
        if self._row_s:
            factor = 1 + WEIGHT * (min(factor, SURPRISE_MAX) - 1)
        for at in {(start + count // 2) // POSITIONS for start, count in prompts}:
            self._row_s[at] = self.row_s(at * POSITIONS) * factor

    def note_moved(self, size: int, took_s: float) -> None:
        """So many bytes of cache were moved in this time."""
        if took_s > 0:
            self._moved_per_s += WEIGHT * (size / took_s - self._moved_per_s)
