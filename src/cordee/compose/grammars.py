"""Who looks at the grammars that clients ask a gateway for."""

from __future__ import annotations

from functools import partial

from cordee.adapters.grammars import GrammarTrials, TrialRules
from cordee.config.tree import Config
from cordee.gateway.calls import Calls
from cordee.gateway.grammars import GrammarDoor, checks
from cordee.gateway.metrics import Metrics


def open_grammars(config: Config, calls: Calls, metrics: Metrics) -> GrammarTrials:
    """It starts no process before the first grammar comes. The caller closes it."""
    rules = config.grammars
    trials = GrammarTrials(
        TrialRules(rules.compute_s, rules.memory_bytes_max, rules.idle_s, rules.waiting_max, rules.remembered_max)
    )
    calls.grammars = GrammarDoor(trials, rules.bytes_max)
    metrics.more.append(partial(checks, trials.counts))
    return trials
