"""All processes of one host together: started at once, ready when all are, ended in the order in which nothing is lost.

The order of the end: gateways first, for they finish the streams of their clients with the help of workers and services; then
those, which have nothing left to do; then the edge, through which the streams went. Whatever has not ended after
`stop_s` is killed.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cordee.adapters.processes import trim_log
from cordee.policy.restart import Restart
from cordee.policy.silence import Silence
from cordee.supervisor.addresses import Resolved
from cordee.supervisor.claim import Claim
from cordee.supervisor.control import Control
from cordee.supervisor.events import Event, Listener
from cordee.supervisor.probe import EdgeHealth, probe_edge, serves, store_answers, unchecked
from cordee.supervisor.reloading import RefusedError, Spread, Taken
from cordee.supervisor.shelf import Plan, Shelf
from cordee.supervisor.status import (
    LoadWanted,
    ModelStatus,
    Overall,
    ProcessStatus,
    Reloaded,
    Report,
    Role,
    Status,
    UnloadWanted,
)
from cordee.supervisor.watched import USAGE_ERROR, Spec, Watched

STOP_ORDER: tuple[tuple[Role, ...], ...] = (("web", "mobile"), ("worker", "services"), ("edge",), ("store",))
TICK_STARTING_S = 0.1  # until ready: somebody is waiting
TICK_S = 1.0
LOGS_CHECKED_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Platform:
    """What is to run. `web` and `mobile` are where clients come in, None where no gateway of that kind is.
    `edge_admin` is Envoy's own socket, None without an edge. `certificate` is what clients check the edge's TLS with, None where
    it speaks none. `reload` reads the configuration anew and writes it down for the gateways, whose running one is `revision`.
    `services_s`: how long to wait for services before going on without them, which inference does not need.
    `models`: of those that have a plan to look at first, the processes in `specs` are started when it says so; `room` is how many bytes
    are left for them. Times in seconds, from the configuration."""

    specs: tuple[Spec, ...]
    model: str
    web: Resolved | None
    mobile: Resolved | None
    edge_admin: Path | None
    control: Path
    key: Path
    certificate: Path | None
    revision: str
    reload: Callable[[], Taken]
    backoff_s: float
    backoff_s_max: float
    deaths_max: int
    window_s: float
    silent_s: float
    stop_s: float
    services_s: float = 0.0
    models: tuple[Plan, ...] = ()
    room: Callable[[], int] = lambda: 0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the platform could not come up, and the exit status that says so."""

    message: str
    code: int


class Supervisor:
    """Runs a Platform. `listener` hears every event; `failure` says why it could not come up, if so."""

    def __init__(self, platform: Platform, claim: Claim, pid: int, listener: Listener) -> None:
        self._platform = platform
        self._claim = claim
        self._pid = pid
        self._listener = listener
        self._began_s = 0.0
        self._was_ready = False
        self._serves = False
        self._stop = asyncio.Event()
        self._ended = asyncio.Event()
        self._reloading = asyncio.Lock()
        self.failure: Failure | None = None
        self._control = Control(
            platform.control, self._reported, self.status, self.reload, self._load, self._unload, self.stop, self._ended
        )
        self._tls: ssl.SSLContext | None = unchecked() if platform.certificate is not None else None
        self._written: tuple[int, ...] = ()
        self._watched = {spec.name: self._watch(spec) for spec in platform.specs}
        self._spread = Spread(platform.revision, lambda: self._watched.values())
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._shelf = Shelf(platform.models, self._watched, self._begin, self._end, platform.room, listener)
        later = {spec.name for plan in platform.models if plan.look is not None for spec in plan.specs}
        for name in later:
            self._watched[name].state = "stopped"
        self._at_once = [spec.name for spec in platform.specs if spec.name not in later]
        self._needed = [spec.name for spec in platform.specs if spec.name not in later and spec.role != "services"]
        self._services = [spec.name for spec in platform.specs if spec.role == "services"]

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        """Begin the end, in order. Idempotent."""
        if not self._stop.is_set():
            self._stop.set()
            self._listener(Event("stopping"))

    def kill(self) -> None:
        """End everything now, whatever is lost."""
        self.stop()
        self._listener(Event("killing", level=logging.WARNING))
        for watched in self._watched.values():
            watched.kill()

    async def reload(self) -> Reloaded:
        """Take the configuration as it is now, or refuse it and go on with the one before."""
        async with self._reloading:
            return await self._reload()

    async def _reload(self) -> Reloaded:
        try:
            taken = await asyncio.to_thread(self._platform.reload)
        except RefusedError as error:
            self._listener(Event("reload-refused", detail=(("reason", error),), level=logging.ERROR))
            return Reloaded(error=str(error))
        self._spread.announce(taken.revision, _now())
        late = await self._spread.settled()
        facts = (("taken", taken.taken), ("needs-a-restart", taken.held), ("late", late))
        detail = tuple((name, ",".join(keys)) for name, keys in facts if keys)
        self._listener(Event("reloaded", detail=detail, level=logging.WARNING if taken.held or late else logging.INFO))
        return Reloaded(taken=list(taken.taken), restart=list(taken.held), late=late)

    async def run(self) -> None:
        """Until everything has ended. Raises OSError when the control socket cannot be made."""
        self._began_s = _now()
        await self._control.open()
        for name in self._at_once:
            self._live(name)
        self._shelf.start()
        tending = asyncio.create_task(self._tend(), name="tend")
        try:
            await self._stop.wait()
            self._shelf.stop()
            for roles in STOP_ORDER:
                await self._end([name for name, one in self._watched.items() if one.spec.role in roles])
        finally:
            tending.cancel()
            self._shelf.stop()
            for watched in self._watched.values():  # nothing, unless something above went wrong
                watched.kill()
            await asyncio.gather(*self._lives.values(), return_exceptions=True)
            self._listener(Event("stopped"))
            self._ended.set()
            self._control.close()

    def status(self) -> Status:
        now, platform = _now(), self._platform
        own = ProcessStatus(
            server=0,
            role="supervisor",
            name="supervisor",
            pid=self._pid,
            address=f"unix:{platform.control}",
            state="draining" if self.stopping else "ready",
            processor="any",
            uptime_s=round(now - self._began_s, 1),
        )
        return Status(
            state=self._overall(),
            data=str(self._claim.data),
            model=platform.model,
            web=base(platform.web, tls=platform.certificate is not None),
            mobile=base(platform.mobile, tls=platform.certificate is not None),
            certificate=str(platform.certificate or ""),
            key=str(platform.key),
            uptime_s=own.uptime_s,
            processes=[own, *(watched.status(now) for watched in self._watched.values())],
            models=self._shelf.statuses(),
        )

    def _overall(self) -> Overall:
        if self.stopping:
            return "stopping"
        if not (self._serves and all(self._watched[name].state == "ready" for name in self._needed)):
            return "degraded" if self._was_ready else "starting"
        if self._awaits_services():
            return "degraded" if self._was_ready else "starting"
        if self._shelf.is_whole and not self._without_services():
            return "ready"
        return "degraded" if self._was_ready or self._shelf.is_settled else "starting"

    def _without_services(self) -> list[Watched]:
        """The services processes that do not run, or lack a service."""
        services = [self._watched[name] for name in self._services]
        return [one for one in services if one.state != "ready" or one.missing]

    def _awaits_services(self) -> bool:
        """Whether one of them may still come up in the time that is given to it."""
        if _now() - self._began_s > self._platform.services_s:
            return False
        return any(one.state in ("starting", "restarting") for one in self._without_services())

    def _watch(self, spec: Spec) -> Watched:
        platform = self._platform
        restart = Restart(platform.backoff_s, platform.backoff_s_max, platform.deaths_max, platform.window_s)
        return Watched(spec, restart, Silence(platform.silent_s), self._listener, self._changed)

    def _changed(self) -> None:
        pids = tuple(watched.pid for watched in self._watched.values() if watched.pid)
        if pids != self._written:  # reports come many times a second, births and deaths do not
            self._written = pids
            self._claim.write_down(pids)
        if not self._was_ready and not self.stopping:
            self._fail_if_hopeless()

    def _reported(self, report: Report) -> None:
        watched = self._watched.get(report.name)
        if watched is not None:
            watched.note(report, _now())
            self._spread.heard(watched, _now())
            if report.models:
                self._shelf.heard(report)

    def _load(self, wanted: LoadWanted) -> ModelStatus:
        return self._shelf.wanted(wanted.model, by_hand=wanted.by_hand)

    def _unload(self, unwanted: UnloadWanted) -> ModelStatus:
        return self._shelf.unwanted(unwanted.model)

    def _begin(self, spec: Spec) -> None:
        """A life of its own for a process that has none, whatever its last one was."""
        if not self.stopping:
            self._watched[spec.name] = self._watch(spec)
            self._live(spec.name)

    def _live(self, name: str) -> None:
        self._lives[name] = asyncio.create_task(self._watched[name].run(), name=name)

    def _fail_if_hopeless(self) -> None:
        lives = (watched for watched in self._watched.values() if watched.spec.is_essential)
        hopeless = next((watched for watched in lives if watched.hopeless), None)
        if hopeless is not None:
            code = USAGE_ERROR if hopeless.exit_status == USAGE_ERROR else 1
            self.failure = Failure(_obituary(hopeless), code)
            hopeless.terminate()  # it is not tried again while the others end
            self.stop()

    async def _tend(self) -> None:
        """What has to be looked at now and then."""
        logs_checked_s = _now()
        while True:
            await self._look()
            self._shelf.tend()
            if _now() - logs_checked_s > LOGS_CHECKED_EVERY_S:
                logs_checked_s = _now()
                for watched in self._watched.values():
                    trim_log(watched.spec.program.log)
            await asyncio.sleep(TICK_S if self._was_ready else TICK_STARTING_S)

    async def _look(self) -> None:
        for watched in self._watched.values():
            watched.check_silence(_now())
            if watched.spec.role == "store":
                watched.probed(ready=await store_answers(watched.spec.address), load={})
        platform = self._platform
        if platform.edge_admin is not None and platform.web is not None and platform.mobile is not None:
            health = await probe_edge(platform.web, platform.mobile, platform.edge_admin, self._tls)
            self._serves = health.serves
            self._note_edge(health)
        else:
            addresses = [one for one in (platform.web, platform.mobile) if one is not None]
            self._serves = all([await serves(address.reachable, self._tls) for address in addresses])
        if not self._was_ready and self._overall() in ("ready", "degraded"):
            self._was_ready = True
            for one in self._without_services():
                what = ",".join(one.missing) or "all"
                facts = (("services", what), ("log", one.spec.program.log))
                self._listener(Event("goes-on-without", one.spec.name, facts, logging.WARNING))
            self._listener(Event("all-ready", detail=(("after_s", _now() - self._began_s),)))

    def _note_edge(self, health: EdgeHealth) -> None:
        load = {} if health.open_calls is None else {"open": health.open_calls}
        for watched in self._watched.values():
            if watched.spec.role == "edge":
                watched.probed(ready=health.answers, load=load)

    async def _end(self, names: Sequence[str]) -> None:
        names = [name for name in names if name in self._lives]
        for name in names:
            self._watched[name].terminate()
        tasks = [self._lives[name] for name in names]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=self._platform.stop_s)
        for name in names:
            if self._lives[name] in late:
                after = (("after_s", self._platform.stop_s),)
                self._listener(Event("killing", name, after, logging.WARNING))
                self._watched[name].kill()
        await asyncio.wait(tasks)


def base(address: Resolved | None, *, tls: bool) -> str:
    """Where clients on this host send their requests; "" for no address."""
    return f"http{'s' if tls else ''}://{address.reachable.text}/v1" if address is not None else ""


def _obituary(watched: Watched) -> str:
    spec = watched.spec
    words = watched.last_words()
    said = "its last lines:\n" + "\n".join(f"    {line}" for line in words) if words else "it wrote nothing"
    return (
        f"{spec.name} ended {watched.deaths} times with exit status {watched.exit_status} before it was ready; {said}\n"
        f"The whole log: {spec.program.log}"
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
