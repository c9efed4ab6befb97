"""Providers outside, put together from the configuration: their keys read, their lanes opened, the door to them watched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from functools import partial
from typing import Any

from cordee.adapters.host import Host
from cordee.adapters.installation import installation
from cordee.adapters.spend_file import SpendFile
from cordee.adapters.upstreams.cloud import Cloud
from cordee.adapters.upstreams.cloud_request import Rules
from cordee.adapters.upstreams.endpoint import Endpoint
from cordee.adapters.upstreams.providers import PROVIDERS
from cordee.compose.api_key import key_of
from cordee.compose.following import Following
from cordee.config.launch import GatewayLaunch
from cordee.config.sections import outside
from cordee.config.tree import Config
from cordee.domain.replica import Capacity, Continuation, ReplicaKind
from cordee.gateway.calls import Calls
from cordee.gateway.metrics import Metrics
from cordee.gateway.outside.hops import Hops
from cordee.gateway.outside.metrics import families
from cordee.gateway.outside.overflow import DAY_S, Lane, LaneAccount, Outside
from cordee.gateway.roster import TOKENS_PER_HTTP_CALL, Roster
from cordee.gateway.walk import Walks
from cordee.policy.breaker import Breaker, BreakerRules
from cordee.policy.overflow import Band, Each, Overflow, OverflowRules
from cordee.policy.replica import Replica
from cordee.policy.retry import RetryBudget, RetryRules
from cordee.policy.spend import Price, Spend
from cordee.ports import Clock

TICK_S = 1.0
LIVE = (
    *(f"overflow.{name}_{edge}" for name in ("cpu", "memory", "gpu", "errors") for edge in ("alert", "normal")),
    *("overflow.response_alert_s", "overflow.response_normal_s", "overflow.calls_min", "overflow.spend_per_day"),
)  # of the settings: the others need a restart


def open_outside(
    config: Config, launch: GatewayLaunch, roster: Roster, calls: Calls, walks: Walks, metrics: Metrics, clock: Clock,
    following: Following,
) -> Coroutine[Any, Any, None]:  # fmt: skip
    """Every provider, and the door to them. What is returned runs while the gateway lives. Raises ValueError, OSError."""
    rules = config.overflow
    book = SpendFile(launch.data, launch.name)
    day = int(time.time() // DAY_S)
    spend = Spend(_cap(config, launch), day, book.read(day))
    host = Host(rules.window_s)
    outside = Outside(
        Overflow(overflow_rules(config)), rules.window_s, spend, rules.currency, roster.pools, clock, host.signals, time.time,
        book.write,
    )  # fmt: skip
    name = installation(launch.data)
    for entry in config.cloud:
        lane = _lane(entry, name, config, outside, clock)
        outside.lanes.append(lane)
        for model in entry.models:
            pool = roster.pool(model)
            pool.gate = outside
            pool.join_cloud(lane.replica, lane.cloud)
    calls.follow(hops=Hops(name))
    walks.outside = outside
    metrics.more.append(partial(families, outside))
    following.follow(
        LIVE, lambda config: (overflow_rules(config), _cap(config, launch)), lambda new: outside.follow(*new)
    )
    return _watch(outside, host)


def _cap(config: Config, launch: GatewayLaunch) -> float:
    """This gateway's share of a day's money: together they never spend more than the whole."""
    return config.overflow.spend_per_day / launch.gateways


def overflow_rules(config: Config) -> OverflowRules:
    o = config.overflow
    bands = Each(
        Band(o.cpu_alert, o.cpu_normal), Band(o.memory_alert, o.memory_normal), Band(o.gpu_alert, o.gpu_normal),
        Band(o.response_alert_s, o.response_normal_s), Band(o.errors_alert, o.errors_normal),
    )  # fmt: skip
    return OverflowRules(bands, o.calls_min)


def _lane(entry: outside.Cloud, name: str, config: Config, outside: Outside, clock: Clock) -> Lane:
    provider = PROVIDERS[entry.provider]
    key = key_of(entry.key_env, entry.key_file, f"cloud {entry.name}")
    url = entry.base_url or provider.regions[entry.region]
    endpoint = Endpoint(url, key or None, name, entry.connect_s)
    continues = provider.continues
    if entry.continues == "restart" or (entry.continues == "auto" and entry.thinking):
        continues = Continuation.RESTART
    elif entry.continues == "text":
        continues = Continuation.TEXT
    account = LaneAccount(outside, clock)
    limits = Rules(provider, entry.models, entry.tokens_max, entry.thinking)
    cloud = Cloud(entry.name, endpoint, limits, continues, entry.first_token_s, account)
    trips = BreakerRules(entry.breaker.failures, entry.breaker.open_s, entry.breaker.open_s_max)
    capacity = Capacity(entry.calls_max, entry.calls_max * TOKENS_PER_HTTP_CALL)
    replica = Replica(cloud.id, ReplicaKind.CLOUD, capacity, "", Breaker(trips), continues=continues)
    replica.ready = True
    budget = RetryBudget(RetryRules(config.retry.budget_ratio, config.retry.budget_per_s), clock.now())
    lane = account.lane = Lane(cloud, replica, Price(entry.price_in, entry.price_out), budget)
    return lane


async def _watch(outside: Outside, host: Host) -> None:
    host.start()
    try:
        while True:
            await asyncio.sleep(TICK_S)
            outside.tick()
    finally:
        host.stop()
        outside.close()
