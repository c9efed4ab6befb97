"""What a gateway does against too much load, put together: limits of keys and tenants, priorities, steps of degradation."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily, Metric

from cordee.config.launch import GatewayLaunch
from cordee.config.tree import Config
from cordee.domain.call import Priority
from cordee.gateway.front import Front
from cordee.gateway.limits.allow import Allow, AllowRules
from cordee.gateway.limits.leases import Leases
from cordee.gateway.limits.overload import Overload, OverloadRules
from cordee.gateway.metrics import Metrics
from cordee.gateway.roster import Roster
from cordee.gateway.walk import Walks
from cordee.policy.budget import Calendar
from cordee.policy.degrade import DegradeRules
from cordee.policy.lease import Leased, LeaseRules
from cordee.policy.seats import SeatRules
from cordee.ports import Clock

if TYPE_CHECKING:
    from cordee.adapters.redis.store import Store

LOOK_AT_CLOCK_S = 1.0
SWEEP_S = 60.0
LAST_LEASE_S = 0.5  # at the end, for giving back what is leased
HOLDER_BYTES = 4


def seat_rules(config: Config, launch: GatewayLaunch) -> SeatRules:
    q = config.queue
    return SeatRules(
        q.wait_s_max, q.calls_max, launch.gateways, q.ageing_s, q.window_s, q.overload_wait_s, q.output_weight,
        q.tenants_max,
    )  # fmt: skip


def priorities(config: Config) -> Mapping[bytes, Priority]:
    return {path.encode(): Priority[name.upper()] for path, name in config.queue.priorities.items()}


def overload_rules(config: Config) -> OverloadRules:
    d = config.degrade
    waits_s = (d.hedging_off_s, d.batch_held_s, d.capped_s, d.cache_only_s, d.refuse_s)
    steps = DegradeRules(waits_s, d.utilisation, d.leave_share, d.climb_s, d.dwell_s)
    return OverloadRules(steps, d.max_tokens, Priority[d.capped.upper()], d.enabled)


def allow_rules(config: Config, launch: GatewayLaunch, *, is_shared: bool) -> AllowRules:
    c = config.limits
    leases = LeaseRules(launch.gateways, c.slice_share, c.horizon_s, c.idle_s, c.held_s) if is_shared else None
    return AllowRules(launch.gateways, c.output_tokens_guess, leases)


class Shedding:
    """The parts of one gateway. `run` is its background work."""

    def __init__(self, allow: Allow, leases: Leases | None, overload: Overload, clock: Clock) -> None:
        self.overload = overload
        self._allow = allow
        self._leases = leases
        self._clock = clock

    def follow(self, rules: AllowRules, interval_s: float) -> None:
        """From now on by these."""
        self._allow.rules = rules
        if self._leases is not None and rules.leases is not None:
            self._leases.interval_s = interval_s
            for meter in self._allow.meters():
                if isinstance(meter, Leased):
                    meter.follow(rules.leases)

    async def run(self) -> None:
        self.overload.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_at_clock())
            if self._leases is not None:
                group.create_task(self._leases.run())

    async def close(self) -> None:
        """What is leased goes back."""
        if self._leases is not None:
            leased = [meter for meter in self._allow.meters() if isinstance(meter, Leased)]
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_LEASE_S):
                    await self._leases.give_back(leased)

    def metrics(self) -> Iterable[Metric]:
        yield from self.overload.metrics()
        yield GaugeMetricFamily("cordee_limits_held", "Keys and tenants whose use is counted.", value=len(self._allow))
        if self._leases is not None:
            text = "1: the store is away, and each gateway keeps its share of every limit."
            yield GaugeMetricFamily("cordee_limits_local", text, value=int(self._leases.is_away))

    async def _look_at_clock(self) -> None:
        sweep_at_s = self._clock.now() + SWEEP_S
        while True:
            await asyncio.sleep(LOOK_AT_CLOCK_S)
            now = self._clock.now()
            self._allow.calendar.note(now, time.time())
            if now >= sweep_at_s:
                self._allow.sweep(now)
                sweep_at_s = now + SWEEP_S


def open_shedding(
    config: Config, launch: GatewayLaunch, clock: Clock, roster: Roster, walks: Walks, front: Front, metrics: Metrics,
    store: Store | None,
) -> Shedding:  # fmt: skip
    calendar = Calendar(clock.now(), time.time())
    allow = Allow(allow_rules(config, launch, is_shared=store is not None), calendar, roster.contexts)
    leases = None
    if store is not None:
        from cordee.adapters.redis.limits import RedisLimits  # noqa: PLC0415  # see compose.keeping.open_store

        holder = f"{launch.name}-{secrets.token_hex(HOLDER_BYTES)}"
        leases = Leases(RedisLimits(store), holder, clock.now, config.limits.interval_s)
        allow.wanted = leases.want
    overload = Overload(overload_rules(config), roster.pools.values(), clock)
    walks.allow = allow
    walks.overload = overload
    front.overload = overload
    shedding = Shedding(allow, leases, overload, clock)
    metrics.more.append(shedding.metrics)
    return shedding
