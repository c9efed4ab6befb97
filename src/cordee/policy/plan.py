"""What the planner of an engine is asked, and what it answers: limits and sequences in, one step out."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from cordee.domain.record import record
from cordee.policy.parking import Way


@dataclass(frozen=True, slots=True)
class Limits:
    """`slots` run at once, and `spare` more hold what was computed. `batch_tokens`: rows of one step. Of a step in which others
    decode `prefill_tokens_max` rows may be of prompts. On the mean they make steps `stretch_max` times as long as decoding alone takes,
    or as long as when they decode too, if that is longer (0: no such bound). Prompts take about `prefill_s_max` of one step at most, where
    it does not earn more (0: no such bound in a step of prompts alone), because others wait for its end; one that takes longer is run by
    `prefill_tokens_min` rows at once, or by what takes as long as decoding alone, if that is less.

    After `ageing_s` of waiting a call moves up one class. A sequence is parked at most `parkings_max` times; what is saved of all of
    them occupies `parked_bytes_max`. One token has `token_bytes` of cache, a whole slot `slot_bytes`. `keeps_prefixes`: what was
    computed of a sequence stays there for others when it ends.
    """

    slots: int
    batch_tokens: int
    prefill_tokens_max: int
    spare: int = 0
    prefill_tokens_min: int = 4
    stretch_max: float = 0.0
    prefill_s_max: float = 0.0
    ageing_s: float = 20.0
    parkings_max: int = 3
    parked_bytes_max: int = 0
    token_bytes: int = 0
    slot_bytes: int = 0
    keeps_prefixes: bool = True


@record
class Entry:
    """A sequence that wants to run. Keys are the owner's and never used twice. `length` of its tokens are known; they are in a
    buffer, four bytes each, that the owner goes on filling.

    `scope`: what is computed is shared only among equals of it. `like`: the key of one that begins alike, where that is known.
    `cost`: the tokens of service it is expected to take. `scored_from`: the logits of its rows from this one on are wanted, and it is
    complete when the last of them has run; None for one that goes on with the token that its last logits give.
    """

    key: int
    length: int
    priority: int
    deadline_s: float
    tokens: memoryview
    tenant: str = ""
    scope: Hashable = ()
    like: int | None = None
    cost: int = 1
    scored_from: int | None = None


@record
class Chunk:
    """Run the tokens `start … start + count − 1` of sequence `key` in `slot`. `last`: their logits give its next token. `scored`: the
    logits of so many rows, the last ones, are wanted for themselves."""

    key: int
    slot: int
    start: int
    count: int
    last: bool
    scored: int = 0

    @property
    def wanted(self) -> int:
        """Rows whose logits are wanted: the last ones of the chunk."""
        return self.scored or int(self.last)


@record
class Copy:
    """Make slot `target` the first `tokens` tokens of slot `source`, for sequence `key`."""

    key: int
    source: int
    target: int
    tokens: int


@record
class Move:
    """Make slot `target` the `tokens` tokens that slot `source` holds, which is needed for something else."""

    source: int
    target: int
    tokens: int


@record
class Trim:
    """Keep only the first `tokens` tokens of a slot."""

    slot: int
    tokens: int


@record
class Save:
    """Keep the tokens of sequence `key`, which slot `slot` holds, outside the cache."""

    key: int
    slot: int


@record
class Restore:
    """Put what was saved of sequence `key` into slot `slot`."""

    key: int
    slot: int


Operation = Copy | Move | Trim | Save | Restore


@record
class Plan:
    """One step. `operations` come before it, in this order. `chunks` are in ascending order of slot; `apart`: one after the other is
    faster than together. `expired`: sequences whose deadline has passed; they are forgotten. `reused`: (key, tokens) of those that begin
    with what others have computed. `parked`: those that have made room, and how what they had survives."""

    chunks: tuple[Chunk, ...] = ()
    operations: tuple[Operation, ...] = ()
    expired: tuple[int, ...] = ()
    reused: tuple[tuple[int, int], ...] = ()
    parked: tuple[tuple[int, Way], ...] = ()
    apart: bool = False
