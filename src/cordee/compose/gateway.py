"""One gateway process, put together: the front door on one side, replicas by link and by URL on the other."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import gc
import logging
import os
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
from cordee.adapters.upstreams.link import Link, LinkRules
from cordee.adapters.upstreams.openai import Server as OpenAIServer
from cordee.adapters.vocabulary import open_vocabulary
from cordee.config.launch import GatewayLaunch
from cordee.config.load import cache_dir
from cordee.config.tree import Config
from cordee.domain.call import Deadlines
from cordee.domain.replica import Capacity, Load
from cordee.flow.answer import Counts
from cordee.flow.watch import Watch
from cordee.gateway.calls import Calls
from cordee.gateway.front import Front
from cordee.gateway.metrics import Metrics
from cordee.gateway.prepare import Model
from cordee.gateway.roster import Card, PoolRules, Roster, WorkerSeat
from cordee.gateway.walk import Walks
from cordee.http.request import Limits
from cordee.http.server import Server
from cordee.link.frames import WorkerHello
from cordee.policy.after import AttemptRules
from cordee.policy.breaker import BreakerRules
from cordee.policy.retry import RetryRules
from cordee.policy.seats import SeatRules
from cordee.wire.template import Template

log = logging.getLogger(__name__)
COLLECT_RARELY = (
    50_000,
    20,
    100,
)  # a call leaves no cycles behind, so there is little to find among thousands of streams
REFRESH_S = 1.0  # a revoked key is refused at most this much later
HEALTH_LOOKS = 3  # of the edge, after which it sends no more calls to a gateway that drains
UPSTREAM_KEY = "CORDEE_REPLICA_KEY"  # sent to servers reached by URL


def run(config: Config, launch: GatewayLaunch) -> int:
    """Runs until SIGTERM or SIGINT; returns the exit code."""
    try:
        if not os.environ.get("CORDEE_ADMIN_KEY"):
            ensure_admin_key(launch.data)
        model = open_model(config) if any(not is_url(replica) for replica in launch.replicas) else None
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(config, launch, model))
    except (OSError, ModelError, KeysError, ValueError) as error:
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


def is_url(replica: str) -> bool:
    return replica.startswith(("http://", "https://"))


async def _run(config: Config, launch: GatewayLaunch, model: Model | None) -> int:
    loop = asyncio.get_running_loop()
    clock, rng, counts = LoopClock(loop), Random(), Counts()  # noqa: S311  # spreads load, guards nothing
    roster = Roster(_pool_rules(config, launch), clock, rng)
    watch = Watch(clock, roster.pools.values())
    metrics = Metrics(roster, watch, counts)
    counts.takeover = metrics.takeover
    directory = FileDirectory(launch.data)
    limits = config.deadlines
    deadlines = Deadlines(limits.total_s, limits.first_token_s, limits.between_tokens_s)
    walks = Walks(watch, metrics, counts, clock)
    calls = Calls(roster, walks, metrics, clock, rng, deadlines)
    front = Front(roster, directory, calls, walks, metrics)
    if model is not None:
        calls.models[model.name] = model

    server = Server(front, _limits(config))
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

    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    reporter = Reporter(os.environ.get("CORDEE_CONTROL"), lambda: _snapshot(launch, roster, watch, front, model))
    reporter.start()
    background = [loop.create_task(_refresh(directory, front))]
    links = []
    for replica in launch.replicas:
        if is_url(replica):
            background.append(_reach_server(replica, roster, loop))
        else:
            link = _link(replica, config, launch, roster, counts, model)
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
    await front.drain(config.gateway.drain_s)
    for task in background:
        task.cancel()
    for link in links:
        link.close()
    reporter.stop()
    await asyncio.sleep(0.05)  # what was written last is on its way
    server.abort()
    return 0


def _pool_rules(config: Config, launch: GatewayLaunch) -> PoolRules:
    return PoolRules(
        SeatRules(config.queue.wait_s_max, config.queue.calls_max, launch.gateways),
        AttemptRules(config.retry.attempts_max, config.retry.continuations_max),
        RetryRules(config.retry.budget_ratio, config.retry.budget_per_s),
        BreakerRules(config.breaker.failures, config.breaker.open_s, config.breaker.open_s_max),
        config.gateway.http_replica_calls_max,
    )


def _limits(config: Config) -> Limits:
    g = config.gateway
    return Limits(
        g.body_bytes_max, g.header_bytes_max, g.header_timeout_s, g.body_timeout_s, g.idle_timeout_s,
        g.write_buffer_bytes_max, g.connections_max,
    )  # fmt: skip


async def _refresh(directory: FileDirectory, front: Front) -> None:
    while True:
        await asyncio.sleep(REFRESH_S)
        directory.refresh()
        front.forget_keys()


def _reach_server(url: str, roster: Roster, loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
    server = OpenAIServer(url, os.environ.get(UPSTREAM_KEY))
    breaker = roster.breaker()
    told: list[str] = []

    def failed(cause: str) -> None:
        if told != [cause]:
            told[:] = [cause]
            log.warning("replica %s: its models cannot be asked for: %s", server.id, cause)

    return loop.create_task(server.watch(lambda models: roster.serves(server.id, models, server, breaker), failed))


def _link(
    address: str, config: Config, launch: GatewayLaunch, roster: Roster, counts: Counts, model: Model | None
) -> Link:
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

    listener.seat = WorkerSeat(roster, link, late, vocabulary_of)
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
