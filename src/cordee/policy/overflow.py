"""Decides whether the house is full, and which call may leave it.

Two thresholds a signal: at the upper one overflow begins, and it ends only when every signal is back under its lower one
(CPU 80/70 %, memory 85/75 %, GPU 90/80 %, response time 2/1 s, errors 5/1 %). Between the two nothing changes, so that a load
that sits at a threshold does not switch it back and forth. A long response time alone says that somebody should look, not that
there is no room: it alerts, and it keeps overflow on that another signal began.

That overflow is on lets nobody out by itself. A call leaves when it would have to wait here, when no policy forbids it, and
when there is money and room for it outside. With no replica left in the house it may leave whatever the signals say.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from cordee.domain.record import record

T = TypeVar("T")


class Signal(Enum):
    """What is watched."""

    CPU = "cpu"
    MEMORY = "memory"
    GPU = "gpu"
    RESPONSE = "response_time"
    ERRORS = "error_rate"


@record
class Each(Generic[T]):
    """One value for each signal: percent of the host, seconds to the first token, percent of calls that failed."""

    cpu: T
    memory: T
    gpu: T
    response: T
    errors: T

    def of(self, signal: Signal) -> T:
        match signal:
            case Signal.CPU:
                return self.cpu
            case Signal.MEMORY:
                return self.memory
            case Signal.GPU:
                return self.gpu
            case Signal.RESPONSE:
                return self.response
            case Signal.ERRORS:
                return self.errors


Readings = Each[float | None]
"""Of now, smoothed. None: not known."""

NOTHING_READ = Readings(None, None, None, None, None)


@dataclass(frozen=True, slots=True)
class Band:
    """At `alert` and above a signal is high; under `normal` it is back."""

    alert: float
    normal: float


BANDS = Each(Band(80.0, 70.0), Band(85.0, 75.0), Band(90.0, 80.0), Band(2.0, 1.0), Band(5.0, 1.0))


@dataclass(frozen=True, slots=True)
class OverflowRules:
    """`bands` in the units of readings. `calls_min`: with fewer calls in the window their errors say nothing."""

    bands: Each[Band] = BANDS
    calls_min: int = 20


class Overflow:
    """One per gateway. `is_on`: what finds no seat here may leave. `alerts`: the signals that are high now."""

    __slots__ = ("alerts", "is_on", "rules")

    def __init__(self, rules: OverflowRules) -> None:
        self.rules = rules
        self.is_on = False
        self.alerts: frozenset[Signal] = frozenset()

    def note(self, readings: Readings) -> bool:
        """The signals of now. True: overflow has begun or ended with them. A signal that nobody measures counts as normal."""
        was_on = self.is_on
        high, back = set(), True
        for signal in Signal:
            value, band = readings.of(signal), self.rules.bands.of(signal)
            if value is None:
                continue
            if value >= band.alert:
                high.add(signal)
            back = back and value < band.normal
        self.alerts = frozenset(high)
        if high - {Signal.RESPONSE}:
            self.is_on = True
        elif back:
            self.is_on = False
        return self.is_on is not was_on


class Mode(Enum):
    """Why calls may leave now."""

    CLOSED = "closed"
    FULL = "full"  # overflow is on
    ALONE = "alone"  # nobody in the house can answer


def mode(overflow: Overflow, *, has_local: bool) -> Mode:
    if not has_local:
        return Mode.ALONE
    return Mode.FULL if overflow.is_on else Mode.CLOSED
