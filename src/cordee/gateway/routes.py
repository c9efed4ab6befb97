"""What an operator has decided about routing: the strategy of each pool, and the weight and region of each replica."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cordee.policy.outlier import OutlierRules
from cordee.policy.replica import Replica
from cordee.policy.strategy import RouteRules, Strategy


@dataclass(frozen=True, slots=True)
class Place:
    """Where a replica stands, and how much of the load it is to get beside others of its pool."""

    weight: float = 1.0
    region: str = ""


@dataclass(frozen=True, slots=True)
class Routes:
    """`rules` for every pool, but for the strategy of those named in `strategies` by their model; `places` by replica."""

    rules: RouteRules = field(default_factory=RouteRules)
    outliers: OutlierRules = field(default_factory=OutlierRules)
    strategies: Mapping[str, Strategy] = field(default_factory=dict)
    places: Mapping[str, Place] = field(default_factory=dict)

    def of(self, model: str) -> RouteRules:
        """The rules of one pool."""
        strategy = self.strategies.get(model, self.rules.strategy)
        return self.rules if strategy is self.rules.strategy else replace(self.rules, strategy=strategy)

    def put(self, replica: Replica) -> Replica:
        """Gives a replica that is named its weight and region."""
        place = self.places.get(replica.id)
        if place is not None:
            replica.weight, replica.region = place.weight, place.region
        return replica
