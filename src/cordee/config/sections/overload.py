"""Who waits, who is refused, and what keys and tenants may use. See docs/overload.md."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from cordee.config.sections.base import Positive, PriorityName, Section


class Queue(Section, frozen=True):
    """Calls that wait for a seat. See docs/overload.md."""

    wait_s_max: Positive = 30.0
    calls_max: Annotated[int, Meta(ge=0, le=1_000_000)] = 4096
    ageing_s: Positive = 20.0  # after which a call moves up one class
    window_s: Positive = 1.0  # in which what is asked for is compared with what is given back
    overload_wait_s: Positive = 1.0  # how long newcomers may have to wait while it is more
    output_weight: Annotated[float, Meta(ge=0, le=100)] = (
        2.0  # of a token written, beside one read, in fairness between tenants
    )
    tenants_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 4096  # idle tenants whose service is remembered
    priorities: dict[
        Annotated[str, Meta(pattern=r"^/[!-~]*\Z")], PriorityName
    ] = {}  # by path, of calls that do not say


class Limits(Section, frozen=True):
    """Limits of keys and tenants (`cordee keys limits`), as gateways share them. See docs/overload.md."""

    slice_share: Annotated[float, Meta(gt=0, le=1)] = 0.05  # of a limit, that one gateway may hold or owe
    interval_s: Annotated[float, Meta(ge=0.01, le=10)] = 0.1  # between two rounds with the store
    horizon_s: Positive = 1.0  # how long a slice lasts at the recent rate
    idle_s: Positive = 5.0  # after which what is not used goes back
    held_s: Annotated[float, Meta(ge=1, le=3600)] = (
        10.0  # how long the calls at once of a gateway that died still count
    )
    output_tokens_guess: Annotated[int, Meta(ge=1, le=1_000_000)] = (
        512  # of an answer without max_tokens, before any has ended
    )


class Degrade(Section, frozen=True):
    """Steps in which service is cut down under overload. See docs/overload.md."""

    enabled: bool = True
    hedging_off_s: Positive = 0.5  # expected wait of the line at which a step is entered
    batch_held_s: Positive = 1.0
    capped_s: Positive = 2.0
    cache_only_s: Positive = 10.0
    refuse_s: Positive = 20.0
    utilisation: Annotated[float, Meta(gt=0, le=1)] = 0.9  # of all seats, at which hedging goes off too
    leave_share: Annotated[float, Meta(gt=0, lt=1)] = 0.5  # of the wait of a step, below which it is left
    climb_s: Positive = 0.5  # how long the wait must be above it, to enter
    dwell_s: Positive = 2.0  # and below, to leave
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] = 256  # of capped answers
    capped: Literal["batch", "standard"] = "batch"  # the highest class whose answers are capped
