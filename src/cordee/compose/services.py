"""One services process, put together: all services on one unix socket, and what they stand on.

It is not on the path of a call: when it dies, gateways go on without it, and another server's process answers what this one did.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from cordee.adapters.reports import Reporter
from cordee.compose.service_apps import maker, those_there
from cordee.config.launch import ServicesLaunch
from cordee.config.tree import Config
from cordee.services.base.broker import open_broker
from cordee.services.base.database import DatabaseError
from cordee.services.base.gateways import Gateways
from cordee.services.base.ground import Ground
from cordee.services.base.nobody import Nobody
from cordee.services.base.seal import secret_of
from cordee.services.base.together import Together

SECRET = Path("services") / "internal.secret"  # in the data directory: with it gateways and services vouch for callers
ONLY_OURS = 0o177  # the umask under which the socket is made
BACKLOG = 512  # connections of gateways that wait to be accepted
LOOK_S = 0.05  # between two looks whether connections are left
UNHEARD_S = 0.5  # for requests whose caller has gone, at the end
STOP_S = 5.0  # for services to put down what they run beside requests
COLLECT_RARELY = (20_000, 20, 50)
WORDY = ("alembic", "uvicorn.error")  # at the level info they tell of every step
log = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """Uvicorn without its own signals: the process says when it ends, and with which exit status. At the end it waits for requests as
    long as somebody waits for their answers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        breaking = asyncio.create_task(self._break_off())
        try:
            await super().shutdown(sockets)
        finally:
            breaking.cancel()

    async def _break_off(self) -> None:
        """Gateways end before services do: what is still open then is a question that waits for news, and nobody hears the answer."""
        while self.server_state.connections:
            await asyncio.sleep(LOOK_S)
        await asyncio.sleep(UNHEARD_S)
        for task in list(self.server_state.tasks):
            task.cancel()


def run(config: Config, launch: ServicesLaunch) -> int:
    """Runs until SIGTERM or SIGINT; returns the exit code."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(config, launch))
    except (OSError, DatabaseError, ValueError) as error:
        print(f"cordee services: {error}", file=sys.stderr)
        return 1


async def _run(config: Config, launch: ServicesLaunch) -> int:
    for name in WORDY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    loop = asyncio.get_running_loop()
    settings = config.services
    path = Path(launch.listen.removeprefix("unix:"))
    listener = bind(path)
    secret = secret_of(launch.data / SECRET)
    broker = open_broker(settings.events)
    gateways = Gateways(launch.gateways, secret, time.time, settings.asking) if launch.gateways else None
    ground = Ground(launch.data, secret, gateways or Nobody(), broker, time.time, broker)
    together = Together({service: maker(config, service, ground) for service in those_there()}, settings)

    server = Server(
        uvicorn.Config(
            together, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
            proxy_headers=False, backlog=BACKLOG, timeout_keep_alive=int(settings.idle_timeout_s),
            timeout_graceful_shutdown=int(settings.drain_s),
        )
    )  # fmt: skip
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(
        signal.SIGHUP, partial(log.info, "services follow a new configuration when they start anew")
    )

    began_s = loop.time()

    def snapshot() -> dict[str, Any]:
        waits = not together.is_settled and loop.time() - began_s < settings.start_s
        state = "draining" if stopping.is_set() else "starting" if waits else "ready"
        return {
            "name": launch.name, "server": launch.server, "role": "services", "pid": os.getpid(), "address": launch.listen,
            "state": state, "load": {"open": together.open}, "missing": together.missing,
        }  # fmt: skip

    reporter = Reporter(os.environ.get("CORDEE_CONTROL"), snapshot)
    reporter.start()
    together.start()
    serving = loop.create_task(server.serve(sockets=[listener]))
    log.info("services %s listen on %s", launch.name, launch.listen)
    settled = loop.create_task(together.settled())
    await _first(stopping.wait(), settled)
    _settle()
    await _first(stopping.wait(), serving)

    log.info("services %s end with %d requests open", launch.name, together.open)
    together.is_ending = True
    server.should_exit = True
    await serving
    settled.cancel()
    await together.stop(STOP_S)
    await broker.close()
    if gateways is not None:
        await gateways.close()
    reporter.stop()
    path.unlink(missing_ok=True)
    return 0


async def _first(stopping: Any, other: asyncio.Task[None]) -> None:
    """Until one of the two is through."""
    waiting = asyncio.ensure_future(stopping)
    try:
        await asyncio.wait((waiting, other), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


def bind(path: Path) -> socket.socket:
    """A listening socket at `path`, its owner's only. What a killed process has left there goes; one that answers keeps its address.
    Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_socket():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            else:
                raise OSError(f"{path}: another process listens there; end it, or choose another --listen")
    before = os.umask(ONLY_OURS)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        listener.bind(str(path))
    except OSError as error:
        raise OSError(error.errno, f"{path}: {error.strerror}; choose another --listen") from error
    finally:
        os.umask(before)
    return listener


def _settle() -> None:
    """What is there now stays: later collections need not look at it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_RARELY)
