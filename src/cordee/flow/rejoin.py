"""The way to a client's position through an answer that comes in from its beginning, and whether it is the answer that the client
has the beginning of.

Decided by counts and by the rolling hash of the client's event id. An end that the client has seen must be where this answer ends
too: a hash over tokens cannot tell an answer that stopped from one that goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

from cordee.wire.position import OPEN, START, Position, together


class Rejoined(Enum):
    """How far the answer has come."""

    UNDERWAY = auto()  # more has to come before it can be told
    REACHED = auto()  # what comes now is new to the client
    ANOTHER = auto()  # this is not the client's answer: nothing of it may leave


class Rejoin:
    """`start` is the client's. `hashes` are those of its opened choices, at their positions."""

    __slots__ = ("hashes", "start")

    def __init__(self, start: Position) -> None:
        self.start = start
        self.hashes = [START] * len(start.counts)

    def is_old(self, choice: int, count: int) -> bool:
        """Whether the client has token number `count` of a choice, counted from one."""
        return choice < len(self.hashes) and count <= self.start.counts[choice]

    def passed(self, choice: int, hash: int) -> None:
        """A token came that the client has; the hash of its choice with it."""
        self.hashes[choice] = hash

    def look(self, counts: Sequence[int], is_over: Sequence[bool]) -> Rejoined:
        """After a token or an end: how many tokens have come of each choice, and which choices are complete."""
        start = self.start
        is_reached = True
        for choice, (count, state) in enumerate(zip(start.counts, start.states, strict=True)):
            if counts[choice] < count:
                if is_over[choice]:
                    return Rejoined.ANOTHER  # it is shorter than what the client has
                is_reached = False
            elif state != OPEN:
                if counts[choice] > count:
                    return Rejoined.ANOTHER  # it goes on where the client's ended
                is_reached = is_reached and is_over[choice]
        if not is_reached:
            return Rejoined.UNDERWAY
        return Rejoined.REACHED if together(self.hashes) == start.hash else Rejoined.ANOTHER
