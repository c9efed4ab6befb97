"""The canaries of a gateway, put together: the rules from the configuration, the known answers from the data directory."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

from cordee.adapters import known_answers
from cordee.config.tree import Config
from cordee.gateway.health.canaries import Canaries
from cordee.policy.canary import CanaryRules, Said
from cordee.ports import Clock

CANARY_LIVE = ("canary.",)  # what of it a reload changes


def canary_rules(config: Config) -> CanaryRules:
    canary = config.canary
    return CanaryRules(canary.interval_s, canary.timeout_s, canary.dead_s)


def open_canaries(config: Config, data: Path, clock: Clock, rng: Random) -> Canaries:
    """Needs a running event loop."""
    loop = asyncio.get_running_loop()

    def agreed(answers: dict[str, Said]) -> None:
        loop.run_in_executor(None, known_answers.write, data, dict(answers))  # a disk may be slow

    return Canaries(canary_rules(config), clock, rng, known_answers.read(data), agreed)
