"""Decides what a server's "ask me again in so many seconds" means: nobody asks it before, and who cannot wait until then is told so
at once instead of being made to wait in vain."""

from __future__ import annotations

from collections.abc import Sequence

from cordee.domain.outcome import Refusal, Why
from cordee.policy.after import AttemptRules
from cordee.policy.replica import Replica


def rest_s(asked_s: float | None, rules: AttemptRules) -> float:
    """How long a server that was busy is left alone. `asked_s`: what it said, None for nothing."""
    return min(rules.rest_s_max, asked_s if asked_s is not None and asked_s > 0 else rules.rest_s)


def in_vain(now: float, replicas: Sequence[Replica], start_by_s: float) -> Refusal | None:
    """A refusal where all who are there rest for longer than the call can wait; None: waiting may help."""
    until_s = [replica.rests_until_s for replica in replicas if replica.ready]
    first_s = min(until_s, default=0.0)
    if first_s <= max(now, start_by_s):
        return None
    return Refusal(Why.NO_REPLICA, "every server of this model has asked to be left alone for now", first_s - now)
