"""The rules of one gateway process: made of the configuration at the start, and made again by the same functions at a reload."""

from __future__ import annotations

import os
import resource

from cordee.compose.attempts import attempt_rules, chains, hedge_rules, quarantine_rules
from cordee.compose.following import Following
from cordee.compose.logs import set_level
from cordee.compose.overload import priorities, seat_rules
from cordee.compose.routing import breaker_rules, routes
from cordee.config.launch import GatewayLaunch, is_url
from cordee.config.tree import Config
from cordee.domain.call import Deadlines
from cordee.gateway.calls import Calls
from cordee.gateway.roster import PoolRules, Roster
from cordee.http.request import Limits
from cordee.http.server import Server
from cordee.policy.retry import RetryRules

RESERVED_DESCRIPTORS = (
    64  # for links, key files, the control socket: with them all in use by clients nothing else would work
)


def deadlines(config: Config) -> Deadlines:
    most = config.deadlines
    return Deadlines(most.total_s, most.first_token_s, most.between_tokens_s)


def pool_rules(config: Config, launch: GatewayLaunch) -> PoolRules:
    return PoolRules(
        seat_rules(config, launch),
        attempt_rules(config),
        RetryRules(config.retry.budget_ratio, config.retry.budget_per_s),
        breaker_rules(config),
        config.gateway.http_replica_calls_max,
        routes(config, launch.kind, launch.gateways),
        hedge_rules(config),
        quarantine_rules(config),
    )


def limits(config: Config, launch: GatewayLaunch) -> Limits:
    """Behind the edge every client has the edge's address, so a limit by address would be one on all of them."""
    g = config.gateway
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    per_call = 2 if config.replica or any(map(is_url, launch.replicas)) else 1
    affordable = max(1, (descriptors - RESERVED_DESCRIPTORS) // per_call)
    is_behind_edge = "CORDEE_CONTROL" in os.environ and config.edge.enabled
    return Limits(
        g.body_bytes_max, g.header_bytes_max, g.header_timeout_s, g.body_timeout_s, g.idle_timeout_s,
        g.write_buffer_bytes_max, min(g.connections_max, affordable),
        0 if is_behind_edge else g.connections_per_address_max,
    )  # fmt: skip


def follow_rules(following: Following, launch: GatewayLaunch, roster: Roster, calls: Calls, server: Server) -> None:
    """What a reload changes: the same functions make the rules here and at the start."""
    follow = following.follow
    pools = (
        *(
            "queue.",
            "retry.",
            "hedge.",
            "quarantine.",
            "deadlines.",
            "breaker.",
            "routing.",
            "outlier.",
            "pools",
            "replicas",
        ),
        *("web.strategy", "mobile.strategy"),
    )
    follow(pools, lambda config: pool_rules(config, launch), roster.follow)
    follow(("deadlines.",), deadlines, calls.follow)
    follow(("queue.priorities",), priorities, lambda new: calls.follow(priorities=new))
    follow(
        ("gateway.body_bytes_max", "gateway.write_buffer_bytes_max", "gateway.connections_per_address_max"),
        lambda config: limits(config, launch),
        server.follow,
    )
    follow(("gateway.media_hosts",), lambda config: frozenset(config.gateway.media_hosts), calls.trust)
    follow(("gateway.drain_s",), lambda config: config, lambda _: None)  # looked up when the drain begins
    follow(("models",), lambda config: chains(config, roster, calls.models), calls.chain)
    follow(("log_level",), lambda config: config.log_level, set_level)
