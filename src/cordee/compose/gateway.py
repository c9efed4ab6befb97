"""One gateway process, put together: the front door on one side, replicas by link and by URL on the other."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import gc
import logging
import os
import resource
import signal
import ssl
import sys
from collections.abc import Callable
from random import Random
from typing import Any

import uvloop

from cordee.adapters.clock import LoopClock
from cordee.adapters.keyring import KeysError
from cordee.adapters.keys import FileDirectory, ensure_admin_key
from cordee.adapters.models import ModelError, resolve
from cordee.adapters.reports import Reporter
from cordee.adapters.sessions import SessionsError
from cordee.adapters.upstreams.link import Link, LinkRules
from cordee.adapters.vocabulary import open_vocabulary
from cordee.compose.attempts import attempt_rules, chains, hedge_rules, quarantine_rules
from cordee.compose.browsers import open_sessions
from cordee.compose.canaries import CANARY_LIVE, canary_rules, open_canaries
from cordee.compose.following import Following
from cordee.compose.keeping import KEEPING_LIVE, keeping_rules, open_keeping, open_store
from cordee.compose.logs import set_level
from cordee.compose.overload import allow_rules, open_shedding, overload_rules, priorities, seat_rules
from cordee.compose.routing import breaker_rules, routes
from cordee.compose.terminal import on_hangup
from cordee.config.launch import GatewayLaunch, is_url
from cordee.config.load import cache_dir
from cordee.config.tree import Config
from cordee.domain.call import Deadlines
from cordee.domain.replica import Capacity, Load
from cordee.flow.answer import Counts
from cordee.flow.watch import Watch
from cordee.gateway.calls import Calls
from cordee.gateway.canary import Canary
from cordee.gateway.front import Front
from cordee.gateway.marks import share
from cordee.gateway.metrics import Metrics
from cordee.gateway.prepare import Model
from cordee.gateway.replies import REALTIME_PATH
from cordee.gateway.roster import Card, PoolRules, Roster, WorkerSeat
from cordee.gateway.walk import Walks
from cordee.http.request import Limits
from cordee.http.server import Server
from cordee.link.frames import WorkerHello
from cordee.policy.retry import RetryRules
from cordee.wire.template import Template

log = logging.getLogger(__name__)
COLLECT_RARELY = (
    50_000,
    20,
    100,
)  # a call leaves no cycles behind, so there is little to find among thousands of streams
GRPC_CLOSE_S = 0.5  # for RPCs whose calls have ended, to say so
REFRESH_S = 1.0  # a revoked key is refused at most this much later
HEALTH_LOOKS = 3  # of the edge, after which it sends no more calls to a gateway that drains
RESERVED_DESCRIPTORS = (
    64  # for links, key files, the control socket: with them all in use by clients nothing else would work
)


def run(config: Config, launch: GatewayLaunch, reread: Callable[[], Config]) -> int:
    """Runs until SIGTERM or SIGINT; returns the exit code. `reread` gives the configuration anew on SIGHUP."""
    try:
        if not os.environ.get("CORDEE_ADMIN_KEY"):
            ensure_admin_key(launch.data)
        model = open_model(config) if any(not is_url(replica) for replica in launch.replicas) else None
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(config, launch, model, Following(config, reread)))
    except (OSError, ModelError, KeysError, SessionsError, ValueError) as error:
        print(f"cordee gateway: {error}", file=sys.stderr)
        return 1


def open_model(config: Config) -> Model:
    """What this gateway needs of the model that its workers serve. Raises ModelError, ValueError, OSError."""
    found = resolve(config.model, cache_dir(os.environ))
    vocabulary = open_vocabulary(str(found.path) if found.path is not None else "oracle", config.engine.library)
    return Model(found.name, vocabulary, Template(vocabulary))


def give_back_memory() -> None:
    """What reading a vocabulary has left over goes back to the system, where the C library can do that (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


async def _run(config: Config, launch: GatewayLaunch, model: Model | None, following: Following) -> int:
    loop = asyncio.get_running_loop()
    clock, rng, counts = LoopClock(loop), Random(), Counts()  # noqa: S311  # spreads load, guards nothing
    roster = Roster(_pool_rules(config, launch), clock, rng)
    watch = Watch(clock, roster.pools.values())
    metrics = Metrics(roster, watch, counts)
    counts.takeover = metrics.takeover
    canaries = open_canaries(config, launch.data, clock, rng)
    metrics.more.append(canaries.metrics)
    directory = FileDirectory(launch.data)
    walks = Walks(watch, metrics, counts, clock)
    calls = Calls(roster, walks, metrics, clock, rng, _deadlines(config))
    front = Front(roster, directory, calls, walks, metrics)
    store = open_store(config, launch)
    kept = open_keeping(config, launch, clock, watch, walks, calls, front, metrics, store)
    shedding = open_shedding(config, launch, clock, roster, walks, front, metrics, store)
    calls.priorities = priorities(config)
    if model is not None:
        calls.models[model.name] = model
    calls.chains = chains(config, roster, calls.models)

    server = Server(front, _limits(config, launch))
    host, _, port = launch.listen.rpartition(":")
    try:
        await server.listen(host.strip("[]"), int(port))
    except OSError as error:
        cure = (
            "choose another --listen, or end what uses it"
            if error.errno == errno.EADDRINUSE
            else "choose another --listen"
        )
        raise OSError(f"cannot listen on {launch.listen}: {os.strerror(error.errno or 0).lower()}; {cure}") from error
    log.info("gateway %s (%s) listens on http://%s", launch.name, launch.kind, launch.listen)

    grpc_server = None
    server.switching.add(REALTIME_PATH)  # on a web gateway too: nobody is there, and the answer is a 404
    if launch.kind == "mobile":
        # Web gateways speak neither, and the libraries cost memory.
        from cordee.compose.mobile import open_mobile  # noqa: PLC0415

        grpc_server = await open_mobile(
            config, launch, front, directory, calls, metrics, following, lambda: roster.is_ready and not front.is_draining
        )  # fmt: skip

    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    _follow(following, launch, roster, calls, server)
    following.follow(KEEPING_LIVE, lambda config: keeping_rules(config, launch), kept.follow)
    following.follow(CANARY_LIVE, canary_rules, canaries.follow)
    following.follow(("degrade.",), overload_rules, shedding.overload.follow)
    following.follow(
        ("limits.",),
        lambda config: (allow_rules(config, launch, is_shared=store is not None), config.limits.interval_s),
        lambda rules: shedding.follow(*rules),
    )
    loop.add_signal_handler(signal.SIGHUP, on_hangup(following.hup, stopping.set))

    def snapshot() -> dict[str, Any]:
        return {**_snapshot(launch, roster, watch, front, model), "revision": following.revision}

    reporter = Reporter(os.environ.get("CORDEE_CONTROL"), snapshot)
    reporter.start()
    background = [loop.create_task(_refresh(directory, front))]
    if store is not None:
        from cordee.adapters.redis.marks import StoreMarks  # noqa: PLC0415  # with a store its library is there already

        told = StoreMarks(store, config.quarantine.entries_max)
        background.append(loop.create_task(share(roster.quarantine, told, clock)))
    if launch.kind == "web" and config.sessions.enabled:
        background.append(open_sessions(config, launch, front, directory, following))
    background += [loop.create_task(kept.run()), loop.create_task(shedding.run())]
    if config.cloud:
        # What leads outside costs memory; most gateways have no provider.
        from cordee.compose.outside import open_outside  # noqa: PLC0415

        background.append(
            loop.create_task(open_outside(config, launch, roster, calls, walks, metrics, clock, following))
        )
    if config.replica or any(map(is_url, launch.replicas)):
        from cordee.compose.peers import open_peers  # noqa: PLC0415

        background += map(loop.create_task, open_peers(config, launch, roster, calls))
    links = []
    for replica in launch.replicas:
        if not is_url(replica):
            link = _link(replica, config, launch, roster, counts, model, canaries.one())
            link.open()
            links.append(link)
    gc.collect()
    gc.freeze()  # what is there now stays: later collections need not look at it
    gc.set_threshold(*COLLECT_RARELY)
    give_back_memory()
    await stopping.wait()

    log.info("gateway %s drains %d calls", launch.name, len(watch.open))
    front.is_draining = True
    if "CORDEE_CONTROL" in os.environ and config.edge.enabled:
        await asyncio.sleep(config.edge.health_interval_s * HEALTH_LOOKS)
    server.stop_accepting()
    if grpc_server is not None:
        grpc_server.stop_accepting()
    await front.drain(following.config.gateway.drain_s)
    if grpc_server is not None:
        await grpc_server.close(GRPC_CLOSE_S)
    for task in background:
        task.cancel()
    await shedding.close()
    await kept.close()
    for link in links:
        link.close()
    reporter.stop()
    await asyncio.sleep(0.05)  # what was written last is on its way
    server.abort()
    return 0


def _follow(following: Following, launch: GatewayLaunch, roster: Roster, calls: Calls, server: Server) -> None:
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
    follow(pools, lambda config: _pool_rules(config, launch), roster.follow)
    follow(("deadlines.",), _deadlines, calls.follow)
    follow(("queue.priorities",), priorities, calls.prioritise)
    follow(
        ("gateway.body_bytes_max", "gateway.write_buffer_bytes_max", "gateway.connections_per_address_max"),
        lambda config: _limits(config, launch),
        server.follow,
    )
    follow(("gateway.drain_s",), lambda config: config, lambda _: None)  # looked up when the drain begins
    follow(("models",), lambda config: chains(config, roster, calls.models), calls.chain)
    follow(("log_level",), lambda config: config.log_level, set_level)


def _deadlines(config: Config) -> Deadlines:
    limits = config.deadlines
    return Deadlines(limits.total_s, limits.first_token_s, limits.between_tokens_s)


def _pool_rules(config: Config, launch: GatewayLaunch) -> PoolRules:
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


def _limits(config: Config, launch: GatewayLaunch) -> Limits:
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


async def _refresh(directory: FileDirectory, front: Front) -> None:
    while True:
        await asyncio.sleep(REFRESH_S)
        directory.refresh()
        front.forget_keys()


def _link(
    address: str, config: Config, launch: GatewayLaunch, roster: Roster, counts: Counts, model: Model | None,
    canary: Canary,
) -> Link:  # fmt: skip
    rules = config.link
    listener = _Listener()
    tls: ssl.SSLContext | None = None
    peer_is_worker: Callable[[ssl.SSLObject], bool] | None = None
    if address.startswith("tls://"):
        # Certificates cost a gateway ten megabytes of library: only those that reach other hosts pay them.
        from cordee.compose.secure import context_to_workers, is_worker  # noqa: PLC0415

        tls, peer_is_worker = context_to_workers(launch.data), is_worker
    link = Link(
        address, launch.name, LinkRules(rules.beat_s, rules.idle_beat_s, rules.suspect_s_min, rules.phi), listener, tls,
        peer_is_worker,
    )  # fmt: skip

    def late(rows: int) -> None:
        counts.late += rows

    def vocabulary_of(name: str) -> int | None:
        return model.vocabulary.size if model is not None and model.name == name else None

    listener.seat = WorkerSeat(roster, link, late, vocabulary_of, canary)
    return link


class _Listener:
    """Passes what a link says on to the worker's seat in the roster."""

    seat: WorkerSeat

    def up(self, hello: WorkerHello) -> bool:
        return self.seat.is_up(
            Card(
                hello.worker, hello.model, hello.fingerprint, hello.context, hello.vocabulary, hello.exact,
                Capacity(hello.capacity_sequences, hello.capacity_tokens),
            )
        )  # fmt: skip

    def load(self, load: Load) -> None:
        self.seat.load(load)

    def suspected(self, silence_s: float) -> None:
        self.seat.suspected(silence_s)

    def recovered(self) -> None:
        self.seat.recovered()

    def draining(self) -> None:
        self.seat.draining()

    def down(self, cause: str) -> None:
        self.seat.down(cause)

    def late(self, rows: int) -> None:
        self.seat.late(rows)


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
