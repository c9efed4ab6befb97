"""Which replica is asked, and which one is left out. See docs/routing.md."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from cordee.config.sections.base import Count, Positive, Region, Section, StrategyName


class Breaker(Section, frozen=True):
    """When a replica is left out, and when it is tried again."""

    failures: Count = 3  # in a row
    open_s: Positive = 1.0  # how long one is left out at first; doubled at each probe that fails
    open_s_max: Positive = 30.0
    window_s: Positive = 10.0  # in which the share of faults is counted
    share: Annotated[float, Meta(gt=0, le=1)] = 0.5  # of the attempts of the window, from which on it opens
    attempts_min: Count = 10  # in the window, before the share says anything
    calls_min: Count = 3  # different ones that saw faults
    tenants_min: Count = 2  # different ones that saw faults, where several call


class Routing(Section, frozen=True):
    """How the replica of a call is chosen. See docs/routing.md for what each strategy is good for."""

    strategy: StrategyName = "least_load"
    spill_load: Annotated[float, Meta(gt=0, le=1)] = 0.8  # geo: share of capacity above which the next region is asked
    regions: dict[str, tuple[Region, ...]] = {}  # geo: the order of the others, by the region of the caller
    server_regions: tuple[Region, ...] = ()  # geo: of the workers of server 1, 2 …
    affinity_bound: Annotated[float, Meta(ge=1, le=100)] = (
        1.25  # prefix_affinity: load over the mean, above which it gives way
    )
    affinity_tokens: Count = (
        64  # of the beginning of a prompt, by which calls are known to begin alike; of text four bytes each
    )
    slow_start_s: Annotated[float, Meta(ge=0, le=3600)] = (
        5.0  # from a tenth to the full weight of a replica that came or came back
    )


class Outlier(Section, frozen=True):
    """Replicas that are slower or fail more often than the others of their pool: they get less, the extreme ones nothing."""

    factor: Annotated[float, Meta(ge=1.5, le=1000)] = (
        3.0  # times the median of the pool; from its square on one is left out
    )
    window_s: Positive = 10.0  # how long one is left out, and after which old observations are forgotten
    judge_s: Positive = 0.25
    ejected_share_max: Annotated[float, Meta(ge=0, le=0.9)] = 0.5  # of a pool, over breakers and outliers together


class PoolSettings(Section, frozen=True):
    """What is particular to the replicas of one model."""

    strategy: StrategyName


class ReplicaSettings(Section, frozen=True):
    """What is particular to one worker, by its name, such as worker-1."""

    weight: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    region: Annotated[str, Meta(max_length=63)] = ""


class Canary(Section, frozen=True):
    """Correctness as health: every worker is asked now and then what has a known answer."""

    interval_s: Annotated[float, Meta(ge=0, le=86_400)] = 15.0  # 0: never asked
    timeout_s: Positive = 2.0  # an engine that has work and ran no step for this long gets no new calls
    dead_s: Positive = 20.0  # and after this long what it was answering goes on elsewhere
