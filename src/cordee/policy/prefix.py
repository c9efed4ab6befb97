"""Who has which beginning: the longest prefix of a new sequence that some slot holds already, or will hold soon.

Tokens are cut into blocks of 32, and each block has a hash that covers all blocks before it, so a prefix is found by looking
up one hash a block, as in vLLM's automatic prefix caching. A hash only proposes: what it found is compared token by token, and
the comparison goes on behind the last whole block. What a slot is still computing counts as promised; whoever may wait for it
waits.

Tokens are bytes, four for each, in a buffer that its owner goes on filling: only so many of them are read as are known.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

BLOCK = 32  # tokens; shorter beginnings are computed again faster than they are found and copied
TOKEN_BYTES = 4
BLOCK_BYTES = BLOCK * TOKEN_BYTES


@dataclass(eq=False, slots=True)
class Held:
    """What is in a slot: the first `computed` of `known` tokens. `scope`: shared only among equals of it. `owner`: the sequence that
    runs there or will come back for it, None for what was left behind. `used_s`: when anybody used it last."""

    slot: int
    scope: Hashable
    tokens: memoryview
    known: int
    computed: int
    owner: int | None
    used_s: float
    hashes: list[int]


@dataclass(frozen=True, slots=True)
class Match:
    """`tokens` are common with what `held` holds or will hold."""

    held: Held
    tokens: int

    @property
    def ready(self) -> int:
        """How many of them are computed."""
        return min(self.tokens, self.held.computed)


class Prefixes:
    """What all slots hold, by the beginnings they have."""

    __slots__ = ("_blocks", "_slots")

    def __init__(self, slots: int) -> None:
        self._slots: list[Held | None] = [None] * slots
        self._blocks: dict[int, dict[int, None]] = {}  # a block's hash: the slots that have it

    def __getitem__(self, slot: int) -> Held | None:
        return self._slots[slot]

    def put(self, held: Held) -> None:
        """The slot holds this from now on, and nothing else."""
        self.clear(held.slot)
        self._slots[held.slot] = held
        for number in held.hashes:
            self._blocks.setdefault(number, {})[held.slot] = None

    def clear(self, slot: int) -> None:
        """The slot holds nothing that anybody may use."""
        held = self._slots[slot]
        if held is None:
            return
        self._slots[slot] = None
        for number in held.hashes:
            slots = self._blocks[number]
            del slots[slot]
            if not slots:
                del self._blocks[number]

    def move(self, source: int, target: int) -> None:
        """What `source` holds is in `target` from now on."""
        held = self._slots[source]
        assert held is not None, f"slot {source} holds nothing"
        self.clear(source)
        held.slot = target
        self.put(held)

    def grew(self, held: Held, known: int) -> None:
        """A sequence has so many tokens now: its new whole blocks can be found."""
        held.known = known
        while (len(held.hashes) + 1) * BLOCK <= known:
            before = held.hashes[-1] if held.hashes else hash(held.scope)
            number = _chained(before, held.tokens, len(held.hashes))
            held.hashes.append(number)
            self._blocks.setdefault(number, {})[held.slot] = None

    def find(
        self, scope: Hashable, tokens: memoryview, hashes: list[int], limit: int
    ) -> tuple[Match | None, Match | None]:
        """(the longest there will be, the longest of which all is computed) among the first `limit` tokens."""
        longest: Held | None = None
        ready: Held | None = None
        for count, number in enumerate(hashes, 1):
            slots = self._blocks.get(number)
            if slots is None or (count - 1) * BLOCK >= limit:
                break
            if longest is None or longest.slot not in slots:
                longest = self._slots[next(iter(slots))]
            end = min(count * BLOCK, limit)
            if ready is None or ready.slot not in slots or ready.computed < end:
                ready = next((held for slot in slots if (held := self._slots[slot]) and held.computed >= end), ready)
        return self._matched(scope, tokens, longest, limit), self._matched(scope, tokens, ready, limit)

    def match(self, scope: Hashable, tokens: memoryview, held: Held, limit: int) -> Match | None:
        """What these tokens have in common with one that is known to be alike; None where that is nothing."""
        return self._matched(scope, tokens, held, limit)

    def _matched(self, scope: Hashable, tokens: memoryview, held: Held | None, limit: int) -> Match | None:
        if held is None or held.scope != scope:
            return None
        common = common_tokens(tokens, held.tokens, min(limit, held.known))
        return Match(held, common) if common else None


def hashes_of(scope: Hashable, tokens: memoryview, known: int) -> list[int]:
    """One hash for each whole block of the first `known` tokens."""
    found: list[int] = []
    number = hash(scope)
    for block in range(known // BLOCK):
        number = _chained(number, tokens, block)
        found.append(number)
    return found


def common_tokens(one: memoryview, other: memoryview, limit: int) -> int:
    """How many of the first `limit` tokens are the same in both: by halves, since bytes compare at the speed of memory."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        part = slice(low * TOKEN_BYTES, middle * TOKEN_BYTES)
        if bytes(one[part]) == bytes(other[part]):
            low = middle
        else:
            high = middle - 1
    return low


def _chained(before: int, tokens: memoryview, block: int) -> int:
    return hash((before, bytes(tokens[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES])))
