"""Which slot a sequence runs in, and which one gives up what it holds.

The kernels share a pass only between neighbouring slots, so those that run stay together: a slot between two that run is best, then
one beside one, then one apart. Among equals an empty slot goes first, then whatever was used the longest ago; what somebody will
come back for goes last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from cordee.policy.prefix import Held

Worth = tuple[int, float]

EMPTY, LEFT, PARKED = range(
    3
)  # what is lost with a slot: nothing, what was left behind, what somebody will come back for


def worth(held: Held | None) -> Worth:
    """What would be lost with what is in a slot that nobody runs in; more is worse."""
    if held is None:
        return EMPTY, 0.0
    return (LEFT if held.owner is None else PARKED), held.used_s


def apart(slot: int, running: Sequence[bool], anybody: bool) -> int:
    """How many passes more the kernels need when this slot runs too: −1, 0 or 1."""
    if not anybody:
        return 0
    left = slot > 0 and running[slot - 1]
    right = slot + 1 < len(running) and running[slot + 1]
    return 1 - left - right


def target(
    idle: Iterable[int], running: Sequence[bool], held_in: Callable[[int], Held | None], source: int | None
) -> int | None:
    """The slot to run in, of those that nobody runs in; None where there is none. `source` holds a prefix of the newcomer: between
    equally good places it is the best, as nothing has to be moved."""
    anybody = any(running)
    return min(
        idle,
        key=lambda slot: (apart(slot, running, anybody), slot != source, worth(held_in(slot)), slot),
        default=None,
    )


def least(idle: Iterable[int], held_in: Callable[[int], Held | None]) -> int | None:
    """The slot whose content is worth the least; None where there is none."""
    return min(idle, key=lambda slot: (worth(held_in(slot)), slot), default=None)
