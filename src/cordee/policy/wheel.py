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

    __slots__ = ("_slots", "_tick_s")

    def __init__(self, tick_s: float) -> None:
        self._tick_s = tick_s
        self._slots: dict[int, set[Key]] = {}

    def arm(self, at_s: float, key: Key) -> int:
        """Returns the slot, to disarm by."""
        slot = int(at_s / self._tick_s) + 1
        keys = self._slots.get(slot)
        if keys is None:
            keys = self._slots[slot] = set()
        keys.add(key)
        return slot

    def disarm(self, slot: int, key: Key) -> None:
        keys = self._slots.get(slot)
        if keys is not None:
            keys.discard(key)

    def due(self, now: float) -> list[Key]:
        """Everything whose time has come, earliest first; it is disarmed."""
        last = int(now / self._tick_s)
        ready = sorted(slot for slot in self._slots if slot <= last)
        return [key for slot in ready for key in self._slots.pop(slot)]

    def next_due(self) -> float | None:
        """When to ask again; None when nothing is armed."""
        for slot in [slot for slot, keys in self._slots.items() if not keys]:
            del self._slots[slot]
        if not self._slots:
            return None
        slot = min(self._slots)
        at_s = slot * self._tick_s
        while int(at_s / self._tick_s) < slot:  # rounded down: asked then, `due` would still say no
            at_s = math.nextafter(at_s, math.inf)
        return at_s
