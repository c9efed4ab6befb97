"""One gateway process, put together: the front door on one side, replicas by link and by URL on the other."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import uvloop

from cordee.adapters.clock import LoopClock
from cordee.adapters.internal_secret import SecretError
from cordee.adapters.keyring import KeysError
from cordee.adapters.keys import ensure_admin_key
from cordee.adapters.models import ModelError
from cordee.adapters.reports import Reporter
from cordee.adapters.sessions import SessionsError
from cordee.compose.attempts import chains
from cordee.compose.browsers import open_sessions
from cordee.compose.canaries import CANARY_LIVE, canary_rules, open_canaries
from cordee.compose.credentials import open_credentials, open_identities
from cordee.compose.following import Following
from cordee.compose.grammars import open_grammars
from cordee.compose.keeping import KEEPING_LIVE, keeping_rules, open_keeping, open_store
from cordee.compose.links import link_to
from cordee.compose.lora import adapter_names
from cordee.compose.model import give_back_memory, open_model
from cordee.compose.models import open_shelf, uses_of
from cordee.compose.overload import allow_rules, open_shedding, overload_rules, priorities
from cordee.compose.rules import deadlines, follow_rules, limits, pool_rules
from cordee.compose.templates import Templates
from cordee.compose.terminal import on_hangup
from cordee.config.launch import GUEST, GatewayLaunch, is_link, is_url
from cordee.config.tree import Config
from cordee.flow.answer import Counts
from cordee.flow.watch import Watch
from cordee.gateway import engines, gpus
from cordee.gateway.calls import Calls
from cordee.gateway.front import Front
from cordee.gateway.health.connections import connections
from cordee.gateway.health.lag import Lag
from cordee.gateway.health.marks import share
from cordee.gateway.metrics import Metrics
from cordee.gateway.prepare import Model
from cordee.gateway.replies import REALTIME_PATH
from cordee.gateway.roster import Roster
from cordee.gateway.tasks.endpoints import Tasks
from cordee.gateway.walk import Walks
from cordee.http.server import Server

log = logging.getLogger(__name__)
COLLECT_RARELY = (
    50_000,
    20,
    100,
)  # a call leaves no cycles behind, so there is little to find among thousands of streams
GRPC_CLOSE_S = 0.5  # for RPCs whose calls have ended, to say so
FIRST_BYTES_S = 0.05  # of those who were connected last, and of whose requests nothing is known yet
LAST_BYTES_S = 0.05  # what was written last is on its way
START_S = 1.0  # to wait for a first replica before listening; then there may be none, and those who ask are told so
START_LOOK_S = 0.01
HEALTH_LOOKS = 3  # of the edge, after which it sends no more calls to a gateway that drains


def run(config: Config, launch: GatewayLaunch, reread: Callable[[], Config]) -> int:
    """Runs until SIGTERM or SIGINT; returns the exit code. `reread` gives the configuration anew on SIGHUP."""
    try:
        if not os.environ.get("CORDEE_ADMIN_KEY"):
            ensure_admin_key(launch.data)
        templates = Templates(config.models)
        model = open_model(config, templates) if any(map(is_link, launch.replicas)) else None
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(config, launch, model, templates, Following(config, reread)))
    except (OSError, ModelError, KeysError, SecretError, SessionsError, ValueError) as error:
        print(f"cordee gateway: {error}", file=sys.stderr)
        return 1


async def _run(
    config: Config, launch: GatewayLaunch, model: Model | None, templates: Templates, following: Following
) -> int:
    loop = asyncio.get_running_loop()
    clock, rng, counts = LoopClock(loop), Random(), Counts()  # noqa: S311  # spreads load, guards nothing
    roster = Roster(pool_rules(config, launch), clock, rng)
    roster.adapters = adapter_names(config)
    watch = Watch(clock, roster.pools.values())
    metrics = Metrics(roster, watch, counts)
    counts.takeover = metrics.takeover
    canaries = open_canaries(config, launch.data, clock, rng)
    metrics.more.append(canaries.metrics)
    lag = Lag(clock)
    metrics.more.append(lag.metrics)
    metrics.more.append(partial(gpus.collect, roster.gpus))
    metrics.more.append(partial(engines.collect, roster.figures))
    directory = open_credentials(config, launch)
    walks = Walks(watch, metrics, counts, clock)
    calls = Calls(roster, walks, metrics, clock, rng, deadlines(config))
    front = Front(roster, directory, calls, walks, metrics)
    identities = open_identities(config, launch, directory, watch, front, metrics)
    tasks = Tasks(calls, roster, walks, clock)
    tasks.join(front.paths)
    metrics.more.append(tasks.metrics)
    store = open_store(config, launch)
    kept = open_keeping(config, launch, clock, watch, walks, calls, front, metrics, store)
    shedding = open_shedding(config, launch, clock, roster, walks, front, metrics, store)
    calls.follow(priorities=priorities(config))
    if model is not None:
        calls.models[model.name] = model
    grammars = open_grammars(config, calls, metrics)
    openings, summons = open_shelf(config, roster, calls, model, templates)
    calls.chains = chains(config, roster, calls.models)

    server = Server(front, limits(config, launch))
    metrics.more.append(partial(connections, server))
    grpc_server = None
    server.switching.add(REALTIME_PATH)  # on a web gateway too: nobody is there, and the answer is a 404
    if launch.kind == "mobile":
        # Web gateways speak neither, and the libraries cost memory.
        from cordee.compose.mobile import open_mobile  # noqa: PLC0415

        grpc_server = await open_mobile(
            config, launch, front, directory, calls, metrics, following, lambda: roster.is_ready and not front.is_draining,
            identities.revocations,
        )  # fmt: skip

    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    follow_rules(following, launch, roster, calls, server)
    following.follow(
        ("models",),
        lambda config: templates.made(config, calls.models),
        lambda made: templates.take(made, calls.models),
    )
    following.follow(KEEPING_LIVE, lambda config: keeping_rules(config, launch), kept.follow)
    following.follow(CANARY_LIVE, canary_rules, canaries.follow)
    following.follow(("degrade.",), overload_rules, shedding.overload.follow)
    following.follow(
        ("limits.",),
        lambda config: (allow_rules(config, launch, is_shared=store is not None), config.limits.interval_s),
        lambda rules: shedding.follow(*rules),
    )
    loop.add_signal_handler(signal.SIGHUP, on_hangup(following.hup, stopping.set))

    uses = uses_of(config, watch, metrics)

    def snapshot() -> dict[str, Any]:
        return {**_snapshot(launch, roster, watch, front, model), **uses(), "revision": following.revision}

    reporter = Reporter(os.environ.get("CORDEE_CONTROL"), snapshot)
    reporter.start()
    background = [loop.create_task(one) for one in (identities.refresh(front), kept.run(), shedding.run())]
    if identities.follow is not None:
        background.append(loop.create_task(identities.follow(), name="credentials"))
    if store is not None:
        from cordee.adapters.redis.marks import StoreMarks  # noqa: PLC0415  # with a store its library is there already

        marks = StoreMarks(store, config.quarantine.entries_max)
        background.append(loop.create_task(share(roster.quarantine, marks, clock)))
    if launch.kind == "web" and config.sessions.enabled:
        background.append(open_sessions(config, launch, front, directory, following))
    if launch.services:
        # Only where there are services: what leads to them costs memory.
        from cordee.compose.passage import open_passages  # noqa: PLC0415

        passages = open_passages(config, launch, front, walks, metrics, clock)
        background.append(loop.create_task(passages.run(), name="services"))
        identities.revocations.more.append(passages.end_those)
    if config.cloud:
        # What leads outside costs memory; most gateways have no provider.
        from cordee.compose.outside import open_outside  # noqa: PLC0415

        outside = open_outside(config, launch, roster, calls, walks, metrics, clock, following)
        background.append(loop.create_task(outside))
    if config.replica or any(map(is_url, launch.replicas)):
        from cordee.compose.peers import open_peers  # noqa: PLC0415

        background += map(loop.create_task, open_peers(config, launch, roster, calls))
    if any(replica.startswith(GUEST) for replica in launch.replicas):
        from cordee.compose.guests_heard import hear_guests  # noqa: PLC0415

        background += map(loop.create_task, hear_guests(config, launch, roster))
    workers = [address for address in launch.replicas if is_link(address)]
    links = [link_to(address, config, launch, roster, counts, openings.size, canaries.one()) for address in workers]
    for link in links:
        link.open()
    await _first_replica(roster, stopping)
    await _listen(server, launch.listen)
    log.info("gateway %s (%s) listens on http://%s", launch.name, launch.kind, launch.listen)
    _settle()
    lag.start()  # from here on the loop is the clients'
    await stopping.wait()

    log.info("gateway %s drains %d calls", launch.name, len(watch.open))
    front.is_draining = True
    if "CORDEE_CONTROL" in os.environ and config.edge.enabled:
        await asyncio.sleep(config.edge.health_interval_s * HEALTH_LOOKS)
    server.stop_accepting()
    if grpc_server is not None:
        grpc_server.stop_accepting()
    await asyncio.sleep(FIRST_BYTES_S)
    await front.drain(following.config.gateway.drain_s)
    if grpc_server is not None:
        await grpc_server.close(GRPC_CLOSE_S)
    for task in background:
        task.cancel()
    await shedding.close()
    await kept.close()
    grammars.close()
    for link in links:
        link.close()
    if summons is not None:
        summons.close()
    reporter.stop()
    await asyncio.sleep(LAST_BYTES_S)
    server.abort()
    return 0


async def _first_replica(roster: Roster, stopping: asyncio.Event) -> None:
    """A gateway that comes back while others serve must not answer before it can: who is refused a connection goes to another
    one, while a request that was taken could only be told to come again."""
    end_s = asyncio.get_running_loop().time() + START_S
    while not roster.is_ready and not stopping.is_set() and asyncio.get_running_loop().time() < end_s:
        await asyncio.sleep(START_LOOK_S)


async def _listen(server: Server, address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        await server.listen(host.strip("[]"), int(port))
    except OSError as error:
        cure = (
            "choose another --listen, or end what uses it"
            if error.errno == errno.EADDRINUSE
            else "choose another --listen"
        )
        raise OSError(f"cannot listen on {address}: {os.strerror(error.errno or 0).lower()}; {cure}") from error


def _settle() -> None:
    """What is there now stays: later collections need not look at it, and what its making has left over goes back."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_RARELY)
    give_back_memory()


def _snapshot(launch: GatewayLaunch, roster: Roster, watch: Watch, front: Front, model: Model | None) -> dict[str, Any]:
    state = "draining" if front.is_draining else "ready" if roster.is_ready else "starting"
    return {
        "name": launch.name,
        "server": launch.server,
        "role": launch.kind,
        "pid": os.getpid(),
        "address": f"http://{launch.listen}",
        "state": state,
        "model": model.name if model is not None else ", ".join(roster.pools),
        "load": {"open": len(watch.open)},
    }
