"""The strategies by which the replica of a call is chosen: their names, their settings, and what each of them is to the router."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from cordee.policy.candidates import Candidates
from cordee.policy.replica import Replica, Want

if TYPE_CHECKING:
    from random import Random

EVERYONE = ""  # the group of all replicas, for strategies that tell none apart


class Strategy(Enum):
    """The closed list; the values are what the configuration calls them."""

    LEAST_LOAD = "least_load"
    ROUND_ROBIN = "round_robin"
    LEAST_CONNECTIONS = "least_connections"
    WEIGHTED = "weighted"
    GEO = "geo"
    PREFIX_AFFINITY = "prefix_affinity"


@dataclass(frozen=True, slots=True)
class RouteRules:
    """How a pool chooses.

    `spill_load`: the load, as a share of capacity, above which geo goes to the next region. `regions`: the order in which the
    other regions follow, by the region of the caller. `affinity_bound`: how far above the mean a replica's load may lie before a
    call goes elsewhere than its prefix says. `slow_start_s`: how long a replica that joined or came back takes to its full weight.
    `affinity_tokens` of the beginning of a prompt decide where it belongs, or which of equals it meets. `gateways` share the replicas.
    `shut_share_max`: of the replicas of a pool, how many may be left out by breakers and as outliers together.
    """

    strategy: Strategy = Strategy.LEAST_LOAD
    spill_load: float = 0.8
    regions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    affinity_bound: float = 1.25
    slow_start_s: float = 5.0
    shut_share_max: float = 0.5
    gateways: int = 1
    affinity_tokens: int = 64


class Picker(Protocol):
    """One strategy at work in one pool. It sees only replicas that may be asked, in the groups it wants them in."""

    def group_of(self, replica: Replica) -> str:
        """The name of the group a replica belongs to."""
        ...

    def joined(self, replica: Replica) -> None:
        """It belongs to the pool from now on, whether it may be asked or not."""
        ...

    def left(self, replica: Replica) -> None: ...

    def pick(self, rng: Random, groups: Mapping[str, Candidates], want: Want, *, alone: bool) -> Replica | None:
        """The replica to ask, or None where none can take it. `alone`: no other gateway shares these replicas."""
        ...


class Ungrouped:
    """What most strategies have in common: one group, and no interest in who belongs to the pool."""

    __slots__ = ()

    def group_of(self, replica: Replica) -> str:
        return EVERYONE

    def joined(self, replica: Replica) -> None: ...

    def left(self, replica: Replica) -> None: ...
