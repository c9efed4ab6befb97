"""One worker process, put together: an engine on one side, the link on the other."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from typing import Any

import uvloop

from cordee.adapters.clock import LoopClock
from cordee.adapters.host import Host
from cordee.adapters.link_tls import PkiError
from cordee.adapters.model_sources import ModelError
from cordee.adapters.reports import Reporter
from cordee.compose.engines import open_engine
from cordee.compose.listen import Door, open_door
from cordee.config.launch import WorkerLaunch
from cordee.config.tree import Config
from cordee.engine.job import Engine
from cordee.engine.keep import KeepRules
from cordee.engine.server import LinkServer, ServerRules
from cordee.kernels.library import KernelsError

log = logging.getLogger(__name__)

STOP_MARGIN_S = 3.0  # before the supervisor's SIGKILL: to end the step under way and to close
FLUSH_S = 0.05  # what was written last is on its way


def run(config: Config, launch: WorkerLaunch) -> int:
    """Runs until SIGTERM or SIGINT, or until the engine breaks; returns the exit code."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_Worker(config, launch).run())
    except (OSError, ModelError, KernelsError, PkiError, ValueError) as error:
        print(f"cordee worker: {error}", file=sys.stderr)
        return 1


class _Worker:
    def __init__(self, config: Config, launch: WorkerLaunch) -> None:
        self._config = config
        self._launch = launch
        self._state = "starting"
        self._engine: Engine | None = None
        self._server: LinkServer | None = None
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._exit_code = 0

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)
        reporter = Reporter(os.environ.get("CORDEE_CONTROL"), self._snapshot)
        reporter.start()
        clock = LoopClock(loop)
        self._engine = engine = await asyncio.to_thread(open_engine, self._config, clock)
        door = open_door(self._launch)
        host = Host(self._config.overflow.window_s)
        self._server = server = LinkServer(engine, self._rules(), clock, door.admits, host.signals)
        try:
            host.start()
            engine.start(server.deliver, self._broken)
            await door.listen(server.protocol)
            self._state = "ready"
            log.info("worker %s listens on %s with %s", self._launch.name, self._launch.listen, engine.card)
            gc.collect()
            gc.freeze()  # what is there now stays: later collections need not look at it
            await self._stopping.wait()
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
            "model": self._engine.card.name if self._engine is not None else self._config.model,
            "load": load,
        }


def _open(server: LinkServer) -> int:
    load = server.load()
    return load.running + load.waiting
