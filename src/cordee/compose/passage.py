"""The way from one gateway to the services processes: made of what the gateway was told at its start."""

from __future__ import annotations

import time

from cordee.adapters.internal_secret import internal_secret
from cordee.config.launch import GatewayLaunch
from cordee.config.tree import Config
from cordee.gateway.front import Front
from cordee.gateway.metrics import Metrics
from cordee.gateway.passage.passages import WHOLE_BYTES_MAX, PassageRules, Passages
from cordee.gateway.passage.ways import Ways
from cordee.gateway.walk import Walks
from cordee.ports import Clock


def open_passages(
    config: Config, launch: GatewayLaunch, front: Front, walks: Walks, metrics: Metrics, clock: Clock
) -> Passages:  # fmt: skip
    """Its `run` is to be run beside requests. Raises SecretError, and ValueError for an address that is none."""
    settings = config.services.passage
    whole = min(WHOLE_BYTES_MAX, config.gateway.body_bytes_max)
    rules = PassageRules(
        settings.open_max, settings.open_per_key_max, settings.body_bytes_max, settings.answer_s, whole
    )
    ways = Ways(launch.services, clock, settings.rest_s, settings.silent_s)
    passages = Passages(rules, ways, internal_secret(launch.data), lambda: walks.allow, clock, time.time)
    passages.add_to(front.paths)
    front.passages = passages
    metrics.more.append(passages.metrics)
    return passages
