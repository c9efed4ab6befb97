"""How the calls of a key may stand beside others: what was asked for, and whether it may be had."""

from __future__ import annotations

import dataclasses

from cordee.domain.call import Priority, Sensitivity
from cordee.domain.caller import Bounds, Standing
from cordee.domain.record import record


@record
class Wish:
    """What is to be said of a key's standing, or of a tenant's bounds; None is left as it is."""

    priority: Priority | None = None
    priority_max: Priority | None = None
    local_only: bool | None = None
    sensitivity: Sensitivity | None = None

    @property
    def is_empty(self) -> bool:
        return self == NONE


NONE = Wish()


@record
class Fault:
    """Why a wish is not granted. `is_beyond`: it would be right if the bounds were wider."""

    param: str
    why: str
    is_beyond: bool = False


def stood(now: Standing, wish: Wish) -> Standing:
    """`now` as it is wished to be. A usual priority that was not spoken of goes no higher than the highest."""
    highest = now.priority_max if wish.priority_max is None else wish.priority_max
    usual = max(now.priority, highest) if wish.priority is None else wish.priority
    return dataclasses.replace(
        now,
        priority=usual,
        priority_max=highest,
        local_only=now.local_only if wish.local_only is None else wish.local_only,
        sensitivity=now.sensitivity if wish.sensitivity is None else wish.sensitivity,
    )


def bounded(now: Bounds, wish: Wish) -> Bounds:
    """`now` as it is wished to be; bounds have no usual priority."""
    return Bounds(
        now.priority_max if wish.priority_max is None else wish.priority_max,
        now.local_only if wish.local_only is None else wish.local_only,
        now.sensitivity if wish.sensitivity is None else wish.sensitivity,
    )


def fault_of(wish: Wish, meant: Standing, bounds: Bounds) -> Fault | None:
    """What is wrong with wishing `wish`, so that a key stands as `meant`, where nobody gets beyond `bounds`; None for nothing."""
    if meant.priority < meant.priority_max:
        usual, highest = meant.priority.name.lower(), meant.priority_max.name.lower()
        return Fault("priority", f"calls cannot start as {usual} and go no higher than {highest}")
    if wish.priority_max is not None and wish.priority_max < bounds.priority_max:
        return Fault("priority_max", f"{bounds.priority_max.name.lower()} is the highest there is to give", True)
    if wish.priority is not None and wish.priority < bounds.priority_max:
        return Fault("priority", f"{bounds.priority_max.name.lower()} is the highest there is to give", True)
    if wish.local_only is False and bounds.local_only:
        return Fault("local_only", "calls stay in this installation", True)
    if wish.sensitivity is not None and wish.sensitivity < bounds.sensitivity:
        return Fault("sensitivity", f"{bounds.sensitivity.name.lower()} is the least there is to give", True)
    return None


def both(one: Bounds, other: Bounds) -> Bounds:
    """What neither gets beyond."""
    return Bounds(
        max(one.priority_max, other.priority_max), one.local_only or other.local_only, max(one.sensitivity, other.sensitivity)
    )  # fmt: skip
