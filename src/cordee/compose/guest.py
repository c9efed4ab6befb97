"""The process that minds a guest: it starts a server of another make, finds out when it can be believed, tells gateways and supervisor
how it is, and ends it when it is no longer wanted or no longer well.

To the supervisor it is a worker like any other. It ends with its guest, so that the supervisor's rules of restarting hold for both.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import sys
from pathlib import Path
from typing import Any

import uvloop

from cordee.adapters.guests import commands, sessions
from cordee.adapters.guests.asking import Asker, NotWellError
from cordee.adapters.guests.figures import Figures
from cordee.adapters.guests.word import Teller, Word
from cordee.adapters.host import Host
from cordee.adapters.processes import Process, Program, spawn
from cordee.adapters.reports import Reporter
from cordee.adapters.upstreams.endpoint import Endpoint
from cordee.compose.guests import gpus_of, program_of
from cordee.compose.serving import Served
from cordee.config.launch import GUEST, WorkerLaunch
from cordee.config.tree import Config
from cordee.policy.vigil import Trust, Vigil, VigilRules
from cordee.supervisor.addresses import AddressError, private_ports

log = logging.getLogger(__name__)

STOP_MARGIN_S = 6.0  # before the supervisor's SIGKILL: for the guest to end when its answers have
END_S = 5.0  # from SIGTERM to SIGKILL
KEY_BYTES = 32
SLOTS = 256  # where the configuration says nothing; what vLLM itself takes on most GPUs
NOTHING = Figures(0, 0, 0, 0, 0)
FILE_MODE = 0o600


def run(config: Config, launch: WorkerLaunch, served: Served) -> int:
    """Runs until SIGTERM or SIGINT, or until the guest has ended; returns the exit code."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_Minder(config, launch, served).run())
    except (OSError, AddressError, ValueError) as error:
        print(f"cordee worker: {error}", file=sys.stderr)
        return 1


class _Minder:
    def __init__(self, config: Config, launch: WorkerLaunch, served: Served) -> None:
        self._config = config
        self._launch = launch
        self._served = served
        self._slots = served.entry.slots or SLOTS
        self._state = "starting"
        self._figures = NOTHING
        self._url = self._key = ""
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()
        self._host = Host(config.overflow.window_s)
        self._teller = Teller(Path(launch.listen.removeprefix(GUEST)))
        self._run = launch.data / "run"

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        for pid in sessions.end_leftover(self._note):
            log.warning("worker %s: process %d was left over from before and was killed", self._launch.name, pid)
        reporter = Reporter(os.environ.get("CORDEE_CONTROL"), self._snapshot)
        reporter.start()
        await self._teller.open()
        child = await self._spawn()
        self._host.start()  # it is about the accelerators of the guest
        asker = self._asker()
        ended = loop.create_task(child.wait(), name="guest")
        stop = loop.create_task(self._stopping.wait(), name="stop")
        minding = loop.create_task(self._mind(asker, child), name="mind")
        try:
            await asyncio.wait({ended, stop, minding}, return_when=asyncio.FIRST_COMPLETED)
            if stop.done() and not ended.done():
                await self._drain(ended, minding)
                return 0
            if ended.done():
                log.error("worker %s: its server has ended with status %d", self._launch.name, ended.result())
            else:
                error = minding.exception()
                log.error("worker %s: its server is ended: %s", self._launch.name, error)
                if error is not None and not isinstance(error, NotWellError):
                    raise error
            return 1
        finally:
            self._state = "draining"
            minding.cancel()
            self._tell()
            await self._end(child, ended)
            stop.cancel()
            self._teller.close()
            asker.endpoint.close()
            self._host.stop()
            reporter.stop()

    @property
    def _note(self) -> Path:
        """Where the session of the guest is written down."""
        return self._run / f"{self._launch.name}.guest"

    async def _spawn(self) -> Process:
        entry, name = self._served.entry, self._launch.name
        log_file = self._launch.data / "log" / f"{name}.log"
        for directory in (self._run, log_file.parent):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        gpus = gpus_of(self._config, self._served, name)
        if gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))  # what this process watches
        port = private_ports(1, f"{self._launch.data}/{name}/{os.getpid()}")[0]
        self._key = secrets.token_urlsafe(KEY_BYTES)
        self._url = f"http://{commands.LOOPBACK}:{port}"
        file = self._run / f"{name}.yaml"
        place = commands.Place(
            program_of(entry, os.environ), self._served.name, port, self._key, str(file), gpus, self._slots
        )
        start = commands.start(entry, place, os.environ)
        if start.file:
            file.unlink(missing_ok=True)
            file.touch(FILE_MODE)
            file.write_text(start.file)
        child = await spawn(Program(start.argv, start.environment, log_file))
        sessions.write_down(self._note, child.pid)
        log.info("worker %s starts %s", name, " ".join(start.argv))
        return child

    def _asker(self) -> Asker:
        endpoint = Endpoint(self._url, self._key)
        return Asker(endpoint, self._served.entry.kind, self._served.name, self._config.guests.answer_s)

    # -- while it runs

    async def _mind(self, asker: Asker, child: Process) -> None:
        """Until it is well, then as long as it is. Raises NotWellError when it must be ended."""
        loop, rules = asyncio.get_running_loop(), self._config.guests
        began_s = loop.time()
        await self._come_up(asker, began_s + rules.start_s)
        log.info("worker %s is ready at %s after %.1f s", self._launch.name, self._url, loop.time() - began_s)
        vigil = Vigil(VigilRules(rules.canary_s, rules.answer_s), loop.time())
        question: asyncio.Task[None] | None = None
        if not self._stopping.is_set():
            self._state = "ready"
        trust = Trust.USED
        try:
            while True:
                await self._look(asker, vigil)
                if question is not None and question.done():
                    if question.exception() is None:
                        vigil.answered(loop.time())
                    question = None
                if question is None and vigil.should_ask(loop.time()):
                    question = loop.create_task(asker.canary(), name="canary")
                before, trust = trust, vigil.trust(loop.time())
                if trust is not before:
                    log.warning("worker %s: its server is %s", self._launch.name, trust.value)
                if trust is Trust.LOST:
                    raise NotWellError("it answers no questions any more")
                self._tell(is_ready=trust is Trust.USED and not self._stopping.is_set())
                await asyncio.sleep(rules.look_s)
        finally:
            if question is not None:
                question.cancel()

    async def _come_up(self, asker: Asker, until_s: float) -> None:
        """It loads its model, then it answers. Raises NotWellError."""
        loop, cause = asyncio.get_running_loop(), "nothing listens"
        while loop.time() < until_s:
            try:
                await asker.is_up()
                await asker.canary(max(self._config.guests.answer_s, until_s - loop.time()))
                return
            except NotWellError as error:
                if str(error) != cause:
                    cause = str(error)
                    log.debug("worker %s: not yet: %s", self._launch.name, cause)
            await asyncio.sleep(self._config.guests.look_s)
        raise NotWellError(
            f"it was not ready within guests.start_s = {self._config.guests.start_s:g} s: {cause}; see its log for what it does"
        )

    async def _look(self, asker: Asker, vigil: Vigil) -> None:
        try:
            self._figures = figures = await asker.figures()
        except NotWellError as error:
            log.debug("worker %s: %s", self._launch.name, error)
            return
        vigil.figures(asyncio.get_running_loop().time(), figures.steps)
        if figures.running + figures.waiting:
            self._idle.clear()
        else:
            self._idle.set()

    def _tell(self, *, is_ready: bool = False) -> None:
        figures, signals = self._figures, self._host.signals()
        self._teller.tell(
            Word(
                name=self._launch.name, kind=self._served.entry.kind, model=self._served.name, url=self._url, key=self._key,
                life=os.getpid(), is_ready=is_ready, sequences_max=self._slots * self._served.entry.data_parallel,
                tokens_max=figures.tokens_max, running=figures.running, waiting=figures.waiting, tokens=figures.tokens,
                steps=figures.steps, cpu=signals.cpu, memory=signals.memory, gpu=signals.gpu, gpus=self._host.gpus(),
            )
        )  # fmt: skip

    # -- the end

    async def _drain(self, ended: asyncio.Task[int], minding: asyncio.Task[None]) -> None:
        """No new calls; those that run end, for as long as the supervisor is patient."""
        was_ready, self._state = self._state == "ready", "draining"
        self._tell()
        if not was_ready:
            return  # it has no calls yet
        patience_s = max(0.0, self._config.supervisor.stop_s - STOP_MARGIN_S)
        log.info("worker %s drains its server for %g s at most", self._launch.name, patience_s)
        # A call that a gateway sent before it heard of this is seen at the second look from here on.
        first_s = min(patience_s, 2 * self._config.guests.look_s)
        await asyncio.wait({ended, minding}, timeout=first_s, return_when=asyncio.FIRST_COMPLETED)
        idle = asyncio.get_running_loop().create_task(self._idle.wait(), name="idle")
        await asyncio.wait({ended, minding, idle}, timeout=patience_s - first_s, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()

    async def _end(self, child: Process, ended: asyncio.Task[int]) -> None:
        if not ended.done():
            child.terminate()
            await asyncio.wait({ended}, timeout=END_S)
        for pid in sessions.end(child.pid):
            log.warning("worker %s: process %d of its server had to be killed", self._launch.name, pid)
        await ended
        self._note.unlink(missing_ok=True)
        (self._run / f"{self._launch.name}.yaml").unlink(missing_ok=True)

    def _snapshot(self) -> dict[str, Any]:
        figures = self._figures
        return {
            "name": self._launch.name,
            "server": self._launch.server,
            "role": "worker",
            "pid": os.getpid(),
            "address": self._url,
            "state": self._state,
            "model": self._served.name,
            "load": {
                "running": figures.running,
                "waiting": figures.waiting,
                "tokens": figures.tokens,
                "capacity_sequences": self._slots * self._served.entry.data_parallel,
            },
            "gpus": self._host.gpus(),
        }
