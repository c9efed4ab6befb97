"""From the configuration to the rules by which attempts begin, end and are followed by others."""

from __future__ import annotations

from collections.abc import Mapping

from cordee.config.tree import Config
from cordee.gateway.onward import Chains
from cordee.gateway.prepare import Model
from cordee.gateway.roster import Roster
from cordee.policy.after import AttemptRules
from cordee.policy.fallback import Can, Cause, Fallbacks, Step
from cordee.policy.hedge import HedgeRules
from cordee.policy.quarantine import QuarantineRules


def attempt_rules(config: Config) -> AttemptRules:
    retry, deadlines = config.retry, config.deadlines
    return AttemptRules(
        retry.attempts_max, retry.continuations_max, retry.journal_bytes_max, deadlines.attempt_first_token_s,
        deadlines.attempt_between_tokens_s, retry.rest_s, retry.rest_s_max,
    )  # fmt: skip


def fallbacks(config: Config) -> Fallbacks | None:
    """None: no model has a chain."""
    chains = {
        name: tuple(Step(step.model, frozenset(map(Cause, step.on))) for step in model.fallbacks)
        for name, model in config.models.items()
        if model.fallbacks
    }
    return Fallbacks(chains) if chains else None


def abilities(config: Config) -> dict[str, Can]:
    """What is said of each model."""
    return {name: Can(one.continues, one.tools, one.schema, one.context) for name, one in config.models.items()}


def chains(config: Config, roster: Roster, models: Mapping[str, Model]) -> Chains | None:
    """None: no model has a chain."""
    found = fallbacks(config)
    return None if found is None else Chains(found, abilities(config), roster, models)


def hedge_rules(config: Config) -> HedgeRules:
    hedge = config.hedge
    return HedgeRules(hedge.enabled, hedge.quantile, hedge.share, hedge.utilisation_max)


def quarantine_rules(config: Config) -> QuarantineRules:
    rules = config.quarantine
    return QuarantineRules(rules.enabled, rules.for_s, rules.apart_s, rules.tenant_deaths_max, rules.entries_max)
