"""The models of one gateway beside its first one: their vocabularies, read when they are needed, and their workers, asked for when
they are missing."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

from cordee.adapters.loading import ControlLoader
from cordee.compose.model import openers
from cordee.compose.serving import served
from cordee.compose.templates import Templates
from cordee.config.tree import Config
from cordee.flow.watch import Watch
from cordee.gateway.calls import Calls
from cordee.gateway.metrics import Metrics
from cordee.gateway.openings import Openings
from cordee.gateway.prepare import Model
from cordee.gateway.roster import Roster
from cordee.gateway.summons import Summons


def open_shelf(
    config: Config, roster: Roster, calls: Calls, first: Model | None, templates: Templates
) -> tuple[Openings, Summons | None]:
    """Without a supervisor nobody can start workers: then there are no summons. Raises ModelError for a model that is none."""
    control = os.environ.get("CORDEE_CONTROL")
    further = served(config)
    openings = Openings(
        openers(config, templates), calls.models, roster.contexts, roster.sizes, max(1, config.queue.calls_max),
        is_awaited=control is not None,
    )  # fmt: skip
    if further:
        calls.openings = openings
    if control is None:
        return openings, None
    models = {one.name: one.is_on_demand for one in further}
    if first is not None:
        models[first.name] = False
    roster.summons = summons = Summons(models, ControlLoader(control))
    openings.on_fault = summons.cannot
    for one in further:
        roster.pool(one.name)  # calls may wait in it before there is a worker
    return openings, summons


def uses_of(config: Config, watch: Watch, metrics: Metrics) -> Callable[[], dict[str, dict[str, tuple[int, int]]]]:
    """What the supervisor is told of models that are loaded on demand: calls that are open here, and calls that have ended."""
    names = [one.name for one in served(config) if one.is_on_demand]

    def uses() -> dict[str, dict[str, tuple[int, int]]]:
        if not names:
            return {}
        open_ = Counter(answer.call.model for answer in watch.open)
        return {"models": {name: (open_[name], metrics.ended(name)) for name in names}}

    return uses
