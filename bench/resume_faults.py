"""What strikes streams that can be resumed, in bench.resume and in rehearsals. Real signals to real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.resuming import Stream
from tests.rig import Rig
from tests.valkey import Valkey

Branches = list[tuple[Stream, list[int]]]  # further connections of the same clients, and where they go
FROZEN_S = 1.0
BEFORE_S = 0.2  # a freeze begins before the kill
SPINNERS, SPIN_S = 2, 18


@dataclass
class Field:
    """The processes that something happens to."""

    rig: Rig
    store: Valkey
    spinning: list[subprocess.Popen[bytes]] = field(default_factory=list)
    waking: list[asyncio.Task[None]] = field(default_factory=list)

    def kill_gateway(self, number: int) -> None:
        self.rig.gateways[number].kill()
        self.rig.gateways[number].wait()

    def freeze(self, pid: int, for_s: float = FROZEN_S) -> None:
        os.kill(pid, signal.SIGSTOP)

        async def wake() -> None:
            await asyncio.sleep(for_s)
            os.kill(pid, signal.SIGCONT)

        self.waking.append(asyncio.create_task(wake()))

    def spin(self) -> None:
        """Take the processors away from everybody else, as far as they share."""
        code = f"import time\nend = time.monotonic() + {SPIN_S}\nwhile time.monotonic() < end: pass"
        self.spinning += [subprocess.Popen([sys.executable, "-c", code]) for _ in range(SPINNERS)]

    async def over(self) -> None:
        await asyncio.gather(*self.waking)
        for process in self.spinning:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Fault:
    """`before` happens before any stream begins, `happens` when all have begun; it returns connections to be added."""

    what: str
    happens: Callable[[Field, list[Stream]], Awaitable[Branches]]
    gateways: int = 2
    before: Callable[[Field], None] | None = None


async def killed(there: Field, streams: list[Stream]) -> Branches:
    there.kill_gateway(0)
    return []


async def store_frozen(there: Field, streams: list[Stream]) -> Branches:
    there.freeze(there.store.process.pid)
    await asyncio.sleep(BEFORE_S)
    return await killed(there, streams)


async def store_killed(there: Field, streams: list[Stream]) -> Branches:
    there.kill_gateway(0)
    there.freeze(there.store.process.pid, 2.5)
    return []


async def worker_frozen(there: Field, streams: list[Stream]) -> Branches:
    there.freeze(there.rig.workers[0].pid)
    await asyncio.sleep(BEFORE_S)
    return await killed(there, streams)


async def worker_killed(there: Field, streams: list[Stream]) -> Branches:
    there.rig.kill_worker(0)
    return await killed(there, streams)


async def resuming_gateway_killed(there: Field, streams: list[Stream]) -> Branches:
    there.kill_gateway(0)
    while sum(bool(stream.resumed_s) for stream in streams) < len(streams) / 3:
        await asyncio.sleep(0.01)
    there.kill_gateway(1)
    return []


async def resumed_twice(there: Field, streams: list[Stream]) -> Branches:
    there.kill_gateway(0)
    first, second = there.rig.ports[1:3]
    return [(stream.branch(), [second, first]) for stream in streams]


async def still_open(there: Field, streams: list[Stream]) -> Branches:
    return [(stream.branch(), there.rig.ports[1:]) for stream in streams]


FAULTS = {
    "killed": Fault("kill -9 of a gateway", killed),
    "starved": Fault("the same while two processes spin", killed, before=Field.spin),
    "store_frozen": Fault("the store is frozen for a second around the kill", store_frozen),
    "store_long_frozen": Fault("the store is frozen for 2.5 s after the kill", store_killed),
    "store_frozen_before": Fault(
        "the store is frozen for a second when the streams begin", killed,
        before=lambda there: there.freeze(there.store.process.pid),
    ),
    "worker_frozen": Fault("a worker is frozen for a second around the kill", worker_frozen),
    "worker_killed": Fault("a worker is killed together with the gateway", worker_killed),
    "resuming_gateway_killed": Fault("the gateway they resume at is killed too", resuming_gateway_killed, gateways=3),
    "resumed_twice": Fault("every client resumes at two gateways at once", resumed_twice, gateways=3),
    "still_open": Fault("every client resumes elsewhere while its first connection is open", still_open),
}  # fmt: skip
