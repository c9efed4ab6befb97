"""From the configuration to routing rules."""

import pytest
from msgspec.structs import replace as change

from cordee.compose.layout import seats
from cordee.compose.routing import breaker_rules, places, routes, worker_names
from cordee.config.sections.processes import Worker
from cordee.config.sections.routing import PoolSettings, ReplicaSettings, Routing
from cordee.config.tree import Config
from cordee.policy.strategy import Strategy

CONFIG = Config()


def test_the_defaults_are_those_of_the_policies():
    made = routes(CONFIG, "web", 1)
    assert made.rules == type(made.rules)()
    assert made.outliers == type(made.outliers)()
    assert made.places == {}


def test_the_most_particular_strategy_wins():
    config = change(
        CONFIG,
        routing=Routing(strategy="round_robin"),
        web=change(CONFIG.web, strategy="least_connections"),
        pools={"special": PoolSettings(strategy="geo")},
    )
    assert routes(config, "web", 2).of("m").strategy is Strategy.LEAST_CONNECTIONS
    assert routes(config, "mobile", 2).of("m").strategy is Strategy.ROUND_ROBIN
    assert routes(config, "web", 2).of("special").strategy is Strategy.GEO
    assert routes(config, "web", 2).of("special").gateways == 2


def test_workers_stand_in_the_region_of_their_server_unless_they_are_named():
    config = change(
        CONFIG,
        routing=Routing(server_regions=("eu", "us")),
        worker=Worker(per_server=2),
        replicas={"worker-2": ReplicaSettings(weight=3.0), "worker-1-2": ReplicaSettings(region="ap")},
    )
    found = places(config)
    assert {name: place.region for name, place in found.items()} == {
        "worker-1": "eu", "worker-1-2": "ap", "worker-2": "us", "worker-2-2": "us",
    }  # fmt: skip
    assert found["worker-2"].weight == 3.0


@pytest.mark.parametrize("per_server", [1, 3])
def test_names_of_workers_are_those_of_the_layout(per_server):
    config = change(CONFIG, worker=Worker(per_server=per_server))
    named = {seat.name for seat in seats(config) if seat.role == "worker"}
    assert {name for server in (1, 2) for name in worker_names(config, server)} == named


def test_a_canary_has_the_first_right_to_probe_only_where_there_are_canaries():
    assert breaker_rules(CONFIG).canary_first_s > 0
    assert breaker_rules(change(CONFIG, canary=change(CONFIG.canary, interval_s=0.0))).canary_first_s == 0
