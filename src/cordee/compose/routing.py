"""From the configuration to the rules by which replicas are chosen and left out."""

from __future__ import annotations

from cordee.compose.serving import served, servers_of, worker_name
from cordee.config.tree import Config
from cordee.gateway.routes import Place, Routes
from cordee.policy.breaker import BreakerRules
from cordee.policy.outlier import OutlierRules
from cordee.policy.strategy import RouteRules, Strategy

CANARY_FIRST_S = 0.25  # how long after a pause a synthetic call has the right to be the probe, where there are any


def routes(config: Config, kind: str, gateways: int) -> Routes:
    """`kind`: of the gateway, web or mobile. `gateways`: how many share the replicas."""
    routing, outlier = config.routing, config.outlier
    of_kind = (config.web if kind == "web" else config.mobile).strategy
    return Routes(
        RouteRules(
            Strategy(of_kind or routing.strategy),
            routing.spill_load,
            routing.regions,
            routing.affinity_bound,
            routing.slow_start_s,
            outlier.ejected_share_max,
            gateways,
            routing.affinity_tokens,
        ),
        OutlierRules(outlier.factor, outlier.window_s, outlier.judge_s),
        {model: Strategy(pool.strategy) for model, pool in config.pools.items()},
        places(config),
    )


def places(config: Config) -> dict[str, Place]:
    """Workers stand in the region of their server, unless they are named themselves; servers reached by URL are named where they
    are configured."""
    found = {
        name: Place(region=region)
        for server, region in enumerate(config.routing.server_regions, start=1)
        for name in worker_names(config, server)
    }
    for name, one in config.replicas.items():
        found[name] = Place(one.weight, one.region or (found[name].region if name in found else ""))
    return found


def worker_names(config: Config, server: int) -> list[str]:
    """The names of the workers of one server, of all models."""
    groups = [("", config.worker.per_server)]
    groups += [(one.slug, one.entry.per_server) for one in served(config) if server <= servers_of(config, one.entry)]
    return [worker_name(server, number, slug) for slug, count in groups for number in range(1, count + 1)]


def breaker_rules(config: Config) -> BreakerRules:
    breaker = config.breaker
    return BreakerRules(
        breaker.failures,
        breaker.open_s,
        breaker.open_s_max,
        breaker.window_s,
        breaker.share,
        breaker.attempts_min,
        breaker.calls_min,
        breaker.tenants_min,
        CANARY_FIRST_S if config.canary.interval_s > 0 else 0.0,
    )
