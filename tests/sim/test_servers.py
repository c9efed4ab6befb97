"""What a fault at some of the servers does to the others and to clients: breakers, outliers and routing on the production path, in
virtual time. The rows are those of the fault matrix."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cordee.policy.route import Size, Want
from cordee.sim.servers import ServerWorld
from cordee.sim.world import Scenario, World


@pytest.mark.parametrize("seed", range(3))
def test_a_server_that_refuses_connections_costs_no_client_anything(seed):
    world = ServerWorld(seed, servers=3)
    world.servers[0].behaviour.refuses = True
    world.run(calls=1000, rate=200)
    assert world.failed() == 0
    assert not world.replicas[0].breaker.is_closed
    assert world.servers[0].asked <= 3 + 3, "three to open it, and a probe after one, two and four seconds"
    slowest = max(one.total_s for _, one in world.outcomes)
    assert slowest <= 0.05 + 0.02, "another one is asked at once"


def test_a_server_that_is_back_is_found_soon_and_starts_slowly():
    world = ServerWorld(1, servers=3)
    world.run(calls=1200, rate=200)  # the pool is past its beginning
    world.servers[0].behaviour.refuses = True
    world.run(calls=300, rate=200)
    world.servers[0].behaviour.refuses = False
    back_s = world.clock.now()
    world.run(calls=600, rate=200)
    first_s = min(at for at, one in world.outcomes if at >= back_s and one.replica == "s0")
    assert first_s - back_s <= 2.5, "the pause was at most two seconds and a fifth"
    early = [one.replica for at, one in world.outcomes if first_s <= at < first_s + 0.5]
    assert early.count("s0") < len(early) / 6, "half of its share at most"
    world.run(calls=1400, rate=200)
    assert world.shares(since_s=world.clock.now() - 3)["s0"] > 400 / 3 * 0.8


@pytest.mark.parametrize("seed", range(3))
def test_a_burst_of_errors_at_one_server_is_hardly_seen_by_clients(seed):
    world = ServerWorld(seed, servers=3)
    world.servers[0].behaviour.failing = 0.3
    world.run(calls=4000, rate=400)
    assert world.failed() <= 0.001 * 4000
    assert world.attempts() <= 1.2 * 4000


def test_when_all_servers_fail_the_budget_ends_the_retries_and_the_refusals_are_quick():
    world = ServerWorld(1, servers=3)
    for server in world.servers:
        server.behaviour.failing = 1.0
    world.run(calls=4000, rate=400)
    start = world.attempts()
    world.run(calls=4000, rate=400)
    assert world.attempts() - start <= 1.1 * 4000 + 10 * 11, "a tenth of the calls, and ten a second"
    late = sorted(one.total_s for at, one in world.outcomes if at > 10)
    assert late[int(0.99 * len(late))] <= 0.05


def test_bad_requests_of_one_tenant_open_no_breaker():
    world = ServerWorld(1, servers=2, tenants=("bad", "bad", "good"))
    for server in world.servers:
        server.behaviour.bad_tenant = "bad"
    world.run(calls=1500, rate=300)
    assert world.failed("good") == 0
    assert all(replica.breaker.is_closed for replica in world.replicas)
    assert world.attempts() == 1500, "what is the caller's fault is not tried again"


def test_a_false_alarm_about_most_servers_is_no_outage():
    world = ServerWorld(1, servers=4)
    world.run(calls=200, rate=200)
    for replica in world.replicas[:3]:
        for _ in range(3):
            replica.breaker.failed(world.clock.now(), 0.5)
    world.pool.seats.router.ask(world.clock.now(), world.rng, Want(Size(1, 10)))
    assert sum(map(world.pool.seats.router.is_shut, world.replicas)) == 2
    world.run(calls=800, rate=200)
    assert world.failed() == 0


@pytest.mark.parametrize("seed", range(3))
def test_a_worker_that_is_ten_times_slower_gets_a_fifth_of_its_share_within_two_seconds(seed):
    world = World(
        seed, Scenario(calls=1500, workers=4, slots=64, tokens=30, arrivals_s=10, faults=0, leaving=0, choices_max=1)
    )
    slow = world.workers[0]
    slow._speed = replace(slow._speed, first_token_s=slow._speed.first_token_s * 10, token_s=slow._speed.token_s * 10)
    world.run()
    late = [all[0].replica for id, all in world.outcomes.items() if world.calls[id].arrived_s > 2]
    assert late.count("w0") <= len(late) / 4 / 5
    assert world.not_served() == []
