"""The canaries of one gateway: what they share, and what they count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from random import Random

from prometheus_client.core import CounterMetricFamily, Metric

from cordee.gateway.health.canary import Canary
from cordee.gateway.health.visit import Examiner
from cordee.policy.canary import CanaryRules, Known, Said
from cordee.ports import Clock


class Canaries:
    """`answers`: those known from earlier; `agreed` hears of all that are known when one has come to it."""

    def __init__(
        self, rules: CanaryRules, clock: Clock, rng: Random, answers: dict[str, Said], agreed: Callable[[dict[str, Said]], None]
    ) -> None:  # fmt: skip
        self._failures: Counter[tuple[str, str]] = Counter()
        self._examiner = Examiner(rules, Known(answers), clock, rng, self._failed, agreed)

    def one(self) -> Canary:
        """For one more worker."""
        return Canary(self._examiner)

    def follow(self, rules: CanaryRules) -> None:
        """From now on by these."""
        self._examiner.rules = rules

    def metrics(self) -> Iterable[Metric]:
        failures = CounterMetricFamily(
            "cordee_canary_failures", "Questions with a known answer that a worker did not answer, or wrongly.",
            labels=["replica", "reason"],
        )  # fmt: skip
        for (replica, reason), count in self._failures.items():
            failures.add_metric([replica, reason], count)
        yield failures

    def _failed(self, replica: str, reason: str) -> None:
        self._failures[replica, reason] += 1
