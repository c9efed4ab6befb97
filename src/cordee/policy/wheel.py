"""Decides which waits are over: a hashed timing wheel (Varghese & Lauck, 1987) with a coarse tick.

Arming and disarming cost one set operation each, which is what a call can afford; a wait ends up to one tick late, never
early.
"""

from __future__ import annotations

import math
from typing import Generic, TypeVar

Key = TypeVar("Key")


class Wheel(Generic[Key]):
    """Keys by the tick in which they are due. A key may be armed once."""

    __slots__ = ("_last", "_slots", "_tick_s")

    def __init__(self, tick_s: float) -> None:
        self._tick_s = tick_s
        self._slots: dict[int, set[Key]] = {}  # none of them empty
        self._last = 0  # the slot up to which everything was given

    def arm(self, at_s: float, key: Key) -> int:
        """Returns the slot, to disarm by."""
        slot = int(at_s / self._tick_s) + 1
        if slot <= self._last:  # its time is over: it comes next time
            slot = self._last + 1
        keys = self._slots.get(slot)
        if keys is None:
            keys = self._slots[slot] = set()
        keys.add(key)
        return slot

    def disarm(self, slot: int, key: Key) -> None:
        keys = self._slots.get(slot)
        if keys is not None:
            keys.discard(key)
            if not keys:
                del self._slots[slot]

    def due(self, now: float) -> list[Key]:
        """Everything whose time has come, earliest first; it is disarmed."""
        slots, last = self._slots, int(now / self._tick_s)
        passed = range(self._last + 1, last + 1)
        if len(passed) > len(slots):  # nobody has asked for long
            ready = sorted(slot for slot in slots if slot <= last)
        else:
            ready = [slot for slot in passed if slot in slots]
        self._last = max(last, self._last)
        return [key for slot in ready for key in slots.pop(slot)]

    def next_due(self) -> float | None:
        """When to ask again; None when nothing is armed."""
        if not self._slots:
            return None
        slot = min(self._slots)
        at_s = slot * self._tick_s
        while int(at_s / self._tick_s) < slot:  # rounded down: asked then, `due` would still say no
            at_s = math.nextafter(at_s, math.inf)
        return at_s
