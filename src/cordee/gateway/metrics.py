"""What this gateway counts, kept in plain numbers and turned into Prometheus's format only when somebody asks.

Names follow Prometheus's conventions; every label has few values: models that exist, outcomes, replicas.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from cordee.domain.outcome import End, Outcome
from cordee.flow.answer import Counts
from cordee.flow.watch import Watch
from cordee.gateway.roster import Roster

log = logging.getLogger(__name__)
CONTENT_TYPE = b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n"
BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Histogram:
    """Counts of values up to each bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = BOUNDS_S) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def note(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        running, rows = 0, []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            running += count
            rows.append((bound, float(running)))
        return rows


class _ModelCounts:
    __slots__ = (
        "continued",
        "first_token",
        "outcomes",
        "queue",
        "reasons",
        "retried",
        "tokens_cached",
        "tokens_in",
        "tokens_out",
        "total",
    )

    def __init__(self) -> None:
        self.outcomes = dict.fromkeys(End, 0)
        self.reasons: Counter[str] = Counter()
        self.tokens_in = self.tokens_out = self.tokens_cached = self.continued = self.retried = 0
        self.first_token, self.total, self.queue = Histogram(), Histogram(), Histogram()


class Metrics:
    """Port Ledger and the page at /metrics."""

    def __init__(self, roster: Roster, watch: Watch, counts: Counts) -> None:
        self._roster = roster
        self._watch = watch
        self._counts = counts
        self._models: dict[str, _ModelCounts] = {}
        self.rejected: Counter[int] = Counter()
        self.takeovers = Histogram()
        self.more: list[Callable[[], Iterable[Metric]]] = []  # what other parts of this gateway count
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def append(self, outcome: Outcome) -> None:
        counts = self._models.get(outcome.model)
        if counts is None:
            counts = self._models[outcome.model] = _ModelCounts()
        counts.outcomes[outcome.end] += 1
        counts.tokens_in += outcome.tokens_in
        counts.tokens_cached += outcome.cached
        counts.tokens_out += outcome.tokens_out
        counts.total.note(outcome.total_s)
        counts.queue.note(outcome.queue_s)
        if outcome.first_token_s is not None:
            counts.first_token.note(outcome.first_token_s)
        if outcome.attempts > 1:
            counts.retried += outcome.attempts - 1
            counts.continued += outcome.continued
        if outcome.why is not None:
            counts.reasons[outcome.why.value] += 1

    def ended(self, model: str) -> int:
        """Calls of a model that have ended here, however they did."""
        counts = self._models.get(model)
        return sum(counts.outcomes.values()) if counts is not None else 0

    def takeover(self, call_id: str, took_s: float, at_s: float) -> None:
        self.takeovers.note(took_s)
        log.debug("takeover call=%s took_s=%.6f accepted_s=%.6f", call_id, took_s, at_s)

    def page(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        yield from self._calls()
        yield from self._times()
        yield from self._replicas()
        for collect in self.more:
            yield from collect()
        yield _counter(
            "cordee_late_tokens", "Tokens that came for an attempt that had been given up, dropped.", self._counts.late
        )
        yield from self._attempts()
        yield _counter("cordee_repeated_tokens", "Tokens that came twice, dropped.", self._counts.repeated)
        takeovers = HistogramMetricFamily(
            "cordee_takeover_seconds", "From a fault seen to another replica's acceptance."
        )
        takeovers.add_metric([], self.takeovers.buckets(), self.takeovers.total)
        yield takeovers
        yield GaugeMetricFamily("cordee_calls_open", "Calls in flight.", value=len(self._watch.open))
        rejected = CounterMetricFamily(
            "cordee_requests_rejected", "Requests refused before they became calls.", labels=["status"]
        )
        for status, count in self.rejected.items():
            rejected.add_metric([str(status)], count)
        yield rejected

    def _calls(self) -> Iterable[Metric]:
        calls = CounterMetricFamily("cordee_calls", "Calls by how they ended.", labels=["model", "outcome"])
        reasons = CounterMetricFamily(
            "cordee_call_failures", "Calls not served, by reason.", labels=["model", "reason"]
        )
        tokens = CounterMetricFamily("cordee_tokens", "Tokens through own workers.", labels=["model", "direction"])
        cached = CounterMetricFamily(
            "cordee_prompt_tokens_cached", "Prompt tokens that were not computed again.", labels=["model"]
        )
        again = CounterMetricFamily(
            "cordee_attempts_again", "Attempts beyond the first of a call.", labels=["model", "kind"]
        )
        for model, counts in self._models.items():
            for end, count in counts.outcomes.items():
                calls.add_metric([model, end.value], count)
            for reason, count in counts.reasons.items():
                reasons.add_metric([model, reason], count)
            tokens.add_metric([model, "in"], counts.tokens_in)
            cached.add_metric([model], counts.tokens_cached)
            tokens.add_metric([model, "out"], counts.tokens_out)
            again.add_metric([model, "retry"], counts.retried - counts.continued)
            again.add_metric([model, "continuation"], counts.continued)
        yield from (calls, reasons, tokens, cached, again)

    def _attempts(self) -> Iterable[Metric]:
        hedges = CounterMetricFamily("cordee_hedges", "Calls asked of a second replica.", labels=["model", "won"])
        waiting = GaugeMetricFamily("cordee_suspects_waiting", "Calls that wait to be tried apart.", labels=["model"])
        for model, pool in self._roster.pools.items():
            if pool.hedge is not None:
                hedges.add_metric([model, "yes"], pool.hedge.won)
                hedges.add_metric([model, "no"], pool.hedge.started - pool.hedge.won)
            if pool.ward is not None:
                waiting.add_metric([model], len(pool.ward.waiting))
        yield hedges
        yield waiting
        proven = self._roster.quarantine.proven
        yield _counter("cordee_quarantined", "Requests proven to kill workers, refused from then on.", proven)

    def _times(self) -> Iterable[Metric]:
        for name, attribute, text in (
            ("cordee_first_token_seconds", "first_token", "From arrival to the first token or byte."),
            ("cordee_call_duration_seconds", "total", "From arrival to the end."),
            ("cordee_queue_seconds", "queue", "From arrival to the seat."),
        ):
            family = HistogramMetricFamily(name, text, labels=["model"])
            for model, counts in self._models.items():
                histogram: Histogram = getattr(counts, attribute)
                family.add_metric([model], histogram.buckets(), histogram.total)
            yield family

    def _replicas(self) -> Iterable[Metric]:
        ready = GaugeMetricFamily("cordee_replica_ready", "1: may be asked.", labels=["model", "replica"])
        breaker = GaugeMetricFamily(
            "cordee_replica_breaker_open", "1: left out after faults.", labels=["model", "replica"]
        )
        mine = GaugeMetricFamily("cordee_replica_calls", "This gateway's sequences there.", labels=["model", "replica"])
        weight = GaugeMetricFamily(
            "cordee_replica_weight", "Share of its full weight: below 1 in slow start or as an outlier, 0 while it is left out.",
            labels=["model", "replica"],
        )  # fmt: skip
        ejected = GaugeMetricFamily(
            "cordee_replica_ejected", "1: left out, by its breaker or as an outlier.", labels=["model", "replica"]
        )
        waiting = GaugeMetricFamily("cordee_queue_length", "Calls that wait for a seat.", labels=["model"])
        for model, pool in self._roster.pools.items():
            waiting.add_metric([model], pool.seats.waiting)
            for replica in pool.seats.replicas:
                ready.add_metric([model, replica.id], int(replica.ready))
                breaker.add_metric([model, replica.id], int(not replica.breaker.is_closed))
                mine.add_metric([model, replica.id], replica.mine)
                weight.add_metric([model, replica.id], pool.seats.router.weight(replica))
                ejected.add_metric([model, replica.id], int(pool.seats.router.is_shut(replica)))
        yield from (ready, breaker, mine, weight, ejected, waiting)


def _counter(name: str, text: str, value: int) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value=value)
