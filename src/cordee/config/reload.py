"""What of a new configuration can be taken while everything runs, and what has to wait for a restart.

Rules can change between two calls; ports, processes, models and what Envoy was told cannot. A setting that is not named in
`LIVE` is held back, so that one nobody thought of is reported and never half in force.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec

from cordee.config.checks import problems
from cordee.config.describe import values
from cordee.config.file import ConfigError
from cordee.config.tree import Config

ENGINE_LIVE = (  # followed by workers; the others by gateways
    "engine.slots",
    "engine.threads",
    "engine.batch",
    "engine.prefill_tokens_max",
    "engine.prefill_tokens_min",
    "engine.stretch_max",
    "engine.ageing_s",
    "engine.parkings_max",
)
RESERVED = (
    "engine.slots",
    "engine.batch",
)  # of which no more can be had than at the start, when their memory was taken
LIVE = (  # a whole section ends in a dot
    "log_level",
    "deadlines.",
    "queue.",
    "limits.",
    "degrade.",
    "retry.",
    "breaker.",
    "canary.",
    "hedge.",
    "quarantine.",
    "streams.answer_bytes_max",
    "streams.request_bytes_max",
    "streams.retry_s",
    "idempotency.keep_s",
    "idempotency.wait_s",
    "routing.",
    "outlier.",
    "pools",
    "replicas",
    "models",
    "overflow.cpu_alert",
    "overflow.cpu_normal",
    "overflow.memory_alert",
    "overflow.memory_normal",
    "overflow.gpu_alert",
    "overflow.gpu_normal",
    "overflow.errors_alert",
    "overflow.errors_normal",
    "overflow.response_alert_s",
    "overflow.response_normal_s",
    "overflow.calls_min",
    "overflow.spend_per_day",
    "web.strategy",
    "mobile.strategy",
    *ENGINE_LIVE,
    "gateway.body_bytes_max",
    "gateway.connections_per_address_max",
    "gateway.drain_s",
    "gateway.media_hosts",
    "gateway.write_buffer_bytes_max",
    "sessions.lifetime_s",
    "realtime.",
    "grpc.buffer_bytes_max",
    "sessions.absolute_s",
    "sessions.rotate_s",
    "sessions.ended_per_key_max",
)
REVISION_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Merged:
    """The configuration that goes on: `taken` are the keys that are new in it, `held` those that need a restart."""

    config: Config
    taken: tuple[str, ...]
    held: tuple[str, ...]


def is_live(key: str) -> bool:
    """Whether the dotted `key` can change without a restart."""
    return any(key == live or (live.endswith(".") and key.startswith(live)) for live in LIVE)


def merge(running: Config, wanted: Config, also_held: frozenset[str] = frozenset()) -> Merged:
    """`running` with what can be taken of `wanted`. Raises ConfigError where the two contradict each other."""
    before, after = values(running), values(wanted)
    changed = [key for key in after if after[key] != before[key]]
    taken = tuple(key for key in changed if is_live(key) and key not in also_held)
    held = tuple(key for key in changed if key not in taken)
    tree: dict[str, Any] = msgspec.to_builtins(running)
    for key in taken:
        *sections, name = key.split(".")
        table = tree
        for section in sections:
            table = table[section]
        table[name] = msgspec.to_builtins(after[key])
    config = msgspec.convert(tree, Config)
    for key, problem in problems(config):
        raise ConfigError(f"{key} {problem}. It stands beside settings that need a restart first: {', '.join(held)}.")
    return Merged(config, taken, held)


def revision(config: Config) -> str:
    """A name for everything in `config` that is live: equal if and only if those settings are."""
    live = {key: msgspec.to_builtins(value) for key, value in values(config).items() if is_live(key)}
    return hashlib.sha256(msgspec.json.encode(live)).hexdigest()[:REVISION_DIGITS]
