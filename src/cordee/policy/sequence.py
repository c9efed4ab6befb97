"""A sequence as the planner of an engine keeps it, and a step while it is being planned."""

from __future__ import annotations

from dataclasses import dataclass, field

from cordee.policy.line import Ticket
from cordee.policy.parking import Way
from cordee.policy.plan import Entry, Operation
from cordee.policy.prefix import Held, hashes_of


class Sequence:
    """`length` tokens are known and `computed` of them are in `slot`, −1 while it has none.

    `place`: its class, moved up by age. `turn`: in which order turns were given, 0 before its own. `since_s`: since when it waits
    after its turn. `follows`: the key of the one whose progress it waits for, until `follows_tokens` are there. `held`: what a
    slot holds of it; `saved`: tokens of it that are kept outside the cache. `reused`: tokens that others had computed.
    """

    __slots__ = (
        "_hashes",
        "computed",
        "entry",
        "follows",
        "follows_tokens",
        "held",
        "key",
        "length",
        "parkings",
        "place",
        "reused",
        "saved",
        "scored_from",
        "since_s",
        "slot",
        "ticket",
        "turn",
    )  # fmt: skip

    def __init__(self, entry: Entry, ticket: Ticket) -> None:
        self.entry = entry
        self.key = entry.key
        self.ticket = ticket
        self.length = entry.length
        self.scored_from = entry.scored_from
        self.computed = 0
        self.slot = -1
        self.place = int(ticket.priority)
        self.turn = 0
        self.since_s = 0.0
        self.follows: int | None = None
        self.follows_tokens = 0
        self.held: Held | None = None
        self.saved = 0
        self.parkings = 0
        self.reused = 0
        self._hashes: list[int] | None = None

    @property
    def left(self) -> int:
        """Known tokens that have to run."""
        return self.length - self.computed

    @property
    def is_decoding(self) -> bool:
        return self.length - self.computed == 1 and self.scored_from is None

    @property
    def reusable(self) -> int:
        """How much of it others may have computed: whatever gives logits that are wanted has to run here."""
        return self.length - 1 if self.scored_from is None else min(self.length - 1, self.scored_from)

    @property
    def hashes(self) -> list[int]:
        """Of its whole blocks, as they were known when this was asked first."""
        if self._hashes is None:
            self._hashes = hashes_of(self.entry.scope, self.entry.tokens, self.length)
        return self._hashes

    def place_at(self, now_s: float, ageing_s: float) -> int:
        """Its class after a wait."""
        return max(0, self.place - int((now_s - self.since_s) / ageing_s))


@dataclass(slots=True)
class Making:
    """A plan under way. `touched`: slots whose content something in it already relies on, or changes."""

    now_s: float
    operations: list[Operation] = field(default_factory=list)
    reused: list[tuple[int, int]] = field(default_factory=list)
    parked: dict[int, Way] = field(default_factory=dict)
    touched: set[int] = field(default_factory=set)
