"""The life of one process: start it, believe what it reports, start it again when it dies, give it up when it keeps dying."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import assert_never

from cordee.adapters.processes import Process, Program, log_tail, spawn
from cordee.policy.restart import Died, GiveUp, Restart, Start
from cordee.policy.silence import Hearing, Silence
from cordee.supervisor.events import Event, Listener
from cordee.supervisor.status import ProcessStatus, Report, Role, State

USAGE_ERROR = 2  # exit status of a process that was given something it cannot use: trying again cannot help
STARTUP_DEATHS_MAX = 3  # before it was ever ready; `cordee up` then says why at once instead of after a minute
CANNOT_SPAWN = 126


@dataclass(frozen=True, slots=True)
class Spec:
    """What one process is. `reports`: it tells its state over the control socket; else somebody probes it. `is_essential`: without it
    there is no platform; workers of further models are not."""

    name: str
    role: Role
    server: int
    address: str
    program: Program
    processor: str
    model: str = ""
    reports: bool = True
    is_essential: bool = True


@dataclass(slots=True)
class Watched:
    """A process under supervision. `changed` is called whenever its status has changed."""

    spec: Spec
    restart: Restart
    silence: Silence
    listener: Listener
    changed: Callable[[], None]
    state: State = "starting"
    restarts: int = 0
    deaths: int = 0
    exit_status: int | None = None
    ever_ready: bool = False
    _process: Process | None = None
    _report: Report | None = None
    _started_s: float = 0.0
    _load: dict[str, float] = field(default_factory=dict)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None and self._process.running else 0

    @property
    def answers(self) -> int:
        """Calls that it says it has in hand."""
        return int(self._load.get("running", 0) + self._load.get("waiting", 0)) if self.pid else 0

    @property
    def missing(self) -> Mapping[str, str]:
        """The services that it should offer and cannot, and why."""
        return self._report.missing if self._report is not None and self.pid else {}

    @property
    def revision(self) -> str:
        """The configuration it says it runs with; "" while it says nothing."""
        return self._report.revision if self._report is not None and self.pid else ""

    @property
    def hopeless(self) -> bool:
        """It has never been ready and will not be by trying again."""
        return not self.ever_ready and (
            self.state == "failed" or self.exit_status == USAGE_ERROR or self.deaths >= STARTUP_DEATHS_MAX
        )

    async def run(self) -> None:
        """Until it was stopped or given up."""
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            self.exit_status = await self._live(loop.time())
            if self._stopping.is_set():
                break
            self.deaths += 1
            self.restart.note(loop.time(), Died())
            decision = self.restart.ask(loop.time())
            if self.exit_status == USAGE_ERROR and not self.spec.is_essential:
                decision = GiveUp(self.deaths)
            match decision:
                case GiveUp(deaths):
                    self._become("failed")
                    self._tell("given-up", ("deaths", deaths), ("log", self.spec.program.log), level=logging.ERROR)
                    return
                case Start(at_s):
                    wait_s = max(0.0, at_s - loop.time())
                    self._become("restarting")
                    self._tell("died", *self._ending(), ("restart_in_s", wait_s), level=logging.WARNING)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(wait_s):
                            await self._stopping.wait()
                    self.restarts += 1
        self._become("stopped")
        self._tell("stopped", *self._ending())

    async def _live(self, now: float) -> int:
        """One life; returns its exit status."""
        self._report, self._load, self._started_s = None, {}, now
        self.silence.heard(now)
        try:
            self._process = await spawn(self.spec.program)
        except OSError as error:
            self._tell("cannot-start", ("reason", error), level=logging.ERROR)
            return CANNOT_SPAWN
        self._become("starting")
        self.changed()
        self._tell("started", ("pid", self._process.pid), ("processor", self.spec.processor))
        if self._stopping.is_set():  # asked to stop while it was being made
            self._process.terminate()
        return await self._process.wait()

    def note(self, report: Report, now: float) -> None:
        """A report came in. One from an earlier life is ignored."""
        if report.pid != self.pid:
            return
        before = self.missing
        self._report, self._load = report, dict(report.load)
        for service in report.missing.keys() - before.keys():
            self._tell("missing", ("service", service), ("reason", report.missing[service]), level=logging.ERROR)
        for service in before.keys() - report.missing.keys():
            self._tell("found", ("service", service))
        self.silence.heard(now)
        if not self._stopping.is_set():
            self._become(report.state)
        self.changed()

    def probed(self, *, ready: bool, load: dict[str, float]) -> None:
        """The result of asking a process that does not report."""
        self._load = load
        if self.pid and not self._stopping.is_set():
            self._become("ready" if ready else "silent" if self.state in ("ready", "silent") else "starting")

    def check_silence(self, now: float) -> None:
        """Say so when a process has stopped talking, and end it when it will not speak again: then it is started anew."""
        hearing = self.silence.look(now)
        if not self.spec.reports or self.state not in ("ready", "draining", "silent"):
            return
        match hearing:
            case Hearing.WELL:
                pass
            case Hearing.SILENT:
                self._become("silent")
            case Hearing.LOST if self.pid and self._process is not None and not self._stopping.is_set():
                silent_s = self.silence.silent_s
                self.silence.heard(now)  # the kernel may take its time, and is not to be told every second
                self._tell("lost", ("pid", self.pid), ("silent_s", silent_s), level=logging.WARNING)
                self._process.kill()
            case Hearing.LOST:
                pass  # it is ending already
            case _:
                assert_never(hearing)

    def terminate(self) -> None:
        """Begin the end: no restart any more, and SIGTERM if it runs."""
        self._stopping.set()
        if self.pid and self._process is not None:
            self._become("draining")
            self._process.terminate()

    def hang_up(self) -> None:
        """Tell it that its configuration has changed."""
        if self._process is not None:
            self._process.hang_up()

    def kill(self) -> None:
        self._stopping.set()
        if self._process is not None:
            self._process.kill()

    def last_words(self) -> list[str]:
        """The end of what its last life wrote to its log."""
        return log_tail(self.spec.program.log, self._process.log_offset) if self._process is not None else []

    def status(self, now: float) -> ProcessStatus:
        report = self._report
        return ProcessStatus(
            server=self.spec.server,
            role=self.spec.role,
            name=self.spec.name,
            pid=self.pid,
            address=self.spec.address,
            state=self.state,
            model=(report.model if report is not None else "") or self.spec.model,
            load=self._load if self.pid else {},
            processor=self.spec.processor,
            restarts=self.restarts,
            uptime_s=round(now - self._started_s, 1) if self.pid else 0.0,
            gpus=report.gpus if report is not None and self.pid else [],
            missing=dict(self.missing),
        )

    def _become(self, state: State) -> None:
        if state == self.state:
            return
        before, self.state = self.state, state
        if state == "ready":
            self.ever_ready = True
            self._tell("ready", ("pid", self.pid), ("address", self.spec.address))
        elif state == "silent":
            self._tell("silent", ("pid", self.pid), ("was", before), level=logging.WARNING)
        self.changed()

    def _ending(self) -> tuple[tuple[str, object], ...]:
        code = self.exit_status
        if code is None:
            return ()
        return (("signal", signal.Signals(-code).name),) if code < 0 else (("exit", code),)

    def _tell(self, what: str, *detail: tuple[str, object], level: int = logging.INFO) -> None:
        self.listener(Event(what, self.spec.name, detail, level))
