"""One worker process, put together: an engine on one side, the link on the other."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

import uvloop

from cordee.adapters import link_tls, rights
from cordee.adapters.clock import LoopClock
from cordee.adapters.host import Host
from cordee.adapters.link_tls import PkiError
from cordee.adapters.model_sources import ModelError
from cordee.adapters.reports import Reporter
from cordee.compose.engines import open_engine
from cordee.compose.following import Following
from cordee.compose.listen import Door, open_door
from cordee.compose.live import follow
from cordee.compose.terminal import on_hangup
from cordee.compose.weights import as_loaded
from cordee.config.launch import WorkerLaunch
from cordee.config.load import cache_dir
from cordee.config.tree import Config
from cordee.engine.job import Engine
from cordee.engine.keep import KeepRules
from cordee.engine.server import LinkServer, ServerRules
from cordee.kernels.library import KernelsError

log = logging.getLogger(__name__)

UNUSABLE = 2  # exit status: the model's file is not what it should be, and trying again cannot help
STOP_MARGIN_S = 3.0  # before the supervisor's SIGKILL: to end the step under way and to close
FLUSH_S = 0.05  # what was written last is on its way
GPUS_S = 2.0  # between two words about accelerators, which are for people


def run(config: Config, launch: WorkerLaunch, following: Following) -> int:
    """Runs until SIGTERM or SIGINT, or until the engine breaks; returns the exit code. `config`: as a worker of its model sees it;
    `following`: the whole one, read anew on SIGHUP."""
    try:
        door = open_door(launch)
        config, model = as_loaded(config, launch.serves, cache_dir(os.environ), log.info)  # while files may be written
        if config.worker.confined:
            _confine(launch)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_Worker(config, launch, door, following, model).run())
    except (OSError, ModelError, KernelsError, PkiError, ValueError) as error:
        print(f"cordee worker: {error}", file=sys.stderr)
        return UNUSABLE if isinstance(error, ModelError) else 1


def _confine(launch: WorkerLaunch) -> None:
    """Give up what a worker does not need once its address is known, before the model's file is opened. Devices stay, for builds of
    the kernels that compute on them."""
    kept = {Path("/dev"): rights.DEVICES}
    if launch.listen.startswith("unix:"):
        directory = Path(launch.listen.removeprefix("unix:")).parent
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept[directory] = rights.SOCKETS
    else:
        kept[link_tls.directory_of(launch.data)] = rights.FILES  # certificates are renewed
    for what in rights.give_up(kept):
        log.warning("worker %s could not give up %s", launch.name, what)


class _Worker:
    def __init__(self, config: Config, launch: WorkerLaunch, door: Door, following: Following, model: str) -> None:
        self._config = config
        self._model = model  # what clients call it; "": its own name
        self._following = following
        self._door = door
        self._launch = launch
        self._state = "starting"
        self._engine: Engine | None = None
        self._host: Host | None = None
        self._server: LinkServer | None = None
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._exit_code = 0

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)
        loop.add_signal_handler(signal.SIGHUP, on_hangup(self._following.hup, self._asked_to_stop))
        reporter = Reporter(os.environ.get("CORDEE_CONTROL"), self._snapshot)
        reporter.start()
        clock = LoopClock(loop)
        self._engine = engine = await asyncio.to_thread(open_engine, self._config, clock, self._model)
        door = self._door
        self._host = host = Host(self._config.overflow.window_s)
        self._server = server = LinkServer(engine, self._rules(), clock, door.admits, host.signals)
        try:
            host.start()
            engine.start(server.deliver, self._broken)
            follow(self._following, engine, self._launch.serves)
            await door.listen(server.protocol)
            self._state = "ready"
            log.info("worker %s listens on %s with %s", self._launch.name, self._launch.listen, engine.card)
            gc.collect()
            gc.freeze()  # what is there now stays: later collections need not look at it
            telling = asyncio.get_running_loop().create_task(_tell_gpus(host, server), name="gpus")
            await self._stopping.wait()
            telling.cancel()
            await self._drain(server, door)
        finally:
            door.close()
            server.close()
            await asyncio.sleep(FLUSH_S)
            reporter.stop()
            host.stop()
            engine.stop()
        return self._exit_code

    def _rules(self) -> ServerRules:
        link, streams = self._config.link, self._config.streams
        keep = KeepRules(streams.grace_s, streams.keep_s, streams.ring_bytes_max)
        return ServerRules(self._launch.name, self._config.engine.waiting_max, link.beat_s, link.idle_beat_s, keep)

    async def _drain(self, server: LinkServer, door: Door) -> None:
        """Let what runs end, unless the engine is broken or somebody asks twice."""
        self._state = "draining"
        server.drain()
        door.close()
        if self._exit_code:
            return
        patience_s = max(0.0, self._config.supervisor.stop_s - STOP_MARGIN_S)
        log.info("worker %s drains %d choices for %g s at most", self._launch.name, _open(server), patience_s)
        waits = {asyncio.ensure_future(server.wait_empty()), asyncio.ensure_future(self._hurry.wait())}
        _, pending = await asyncio.wait(waits, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        for wait in pending:
            wait.cancel()
        if _open(server):
            log.warning(
                "worker %s stops with %d choices open: their gateways move them", self._launch.name, _open(server)
            )

    def _asked_to_stop(self) -> None:
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    def _broken(self, why: str) -> None:
        log.error("the engine of worker %s is broken, the process ends: %s", self._launch.name, why)
        self._exit_code = 1
        self._stopping.set()
        self._hurry.set()

    def _snapshot(self) -> dict[str, Any]:
        load: dict[str, int] = {}
        if self._server is not None and self._engine is not None:
            now = self._server.load()
            slots = self._engine.capacity.sequences
            load = {
                "running": now.running,
                "waiting": now.waiting,
                "tokens": now.tokens,
                "capacity_sequences": slots,
            }
        return {
            "name": self._launch.name,
            "server": self._launch.server,
            "role": "worker",
            "pid": os.getpid(),
            "address": self._launch.listen,
            "state": self._state,
            "model": self._engine.card.name if self._engine is not None else self._model or self._config.model,
            "load": load,
            "revision": self._following.revision,
            "gpus": self._host.gpus() if self._host is not None else (),
        }


async def _tell_gpus(host: Host, server: LinkServer) -> None:
    """Until it is cancelled: how its accelerators are and what its engine has counted, where that has changed."""
    while True:
        await asyncio.sleep(GPUS_S)
        server.tell_gpus(host.gpus())
        server.tell_figures()


def _open(server: LinkServer) -> int:
    load = server.load()
    return load.running + load.waiting
