"""What a worker's engine takes of a new configuration while it computes. Whoever runs, runs on."""

from __future__ import annotations

import logging
import os
from dataclasses import replace

from cordee.compose.following import Following
from cordee.compose.serving import as_served, served_as
from cordee.config.reload import ENGINE_LIVE
from cordee.config.tree import Config
from cordee.engine.job import Engine
from cordee.engine.runner_llama import LlamaEngine
from cordee.policy.batch import Limits

log = logging.getLogger(__name__)


def follow(following: Following, engine: Engine, serves: str) -> None:
    """`serves`: the `[[serve]]` that the engine runs, "" for the first model. Other engines than llama.cpp's have nothing to adjust."""
    if not isinstance(engine, LlamaEngine):
        return
    first = engine.limits

    def make(config: Config) -> tuple[Limits, int]:
        return adjusted(as_served(config, served_as(config, serves).entry) if serves else config, first)

    def take(made: tuple[Limits, int]) -> None:
        limits, threads = made
        engine.adjust(limits, threads)
        log.info("%d slots, steps of %d rows, %d threads", limits.slots, limits.batch_tokens, threads)

    following.follow(ENGINE_LIVE, make, take)


def adjusted(config: Config, first: Limits) -> tuple[Limits, int]:
    """The limits of this configuration and its threads; no more slots and rows than `first`, which the memory was taken for."""
    engine = config.engine
    slots = min(engine.slots, first.slots)
    limits = replace(
        first,
        slots=slots,
        batch_tokens=min(max(engine.batch, slots), first.batch_tokens),
        prefill_tokens_max=engine.prefill_tokens_max,
        prefill_tokens_min=engine.prefill_tokens_min,
        stretch_max=engine.stretch_max,
        ageing_s=engine.ageing_s,
        parkings_max=engine.parkings_max,
    )
    return limits, engine.threads or len(os.sched_getaffinity(0))
