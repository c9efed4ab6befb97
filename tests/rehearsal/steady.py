"""A steady stream of short calls beside whatever happens: the yardstick of what other clients notice."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from types import TracebackType
from typing import Self

from bench.machine import percentile
from tests.rehearsal.streams import Told, chat, listen
from tests.rig import KEY

FIRST_SEED = 9_000_000


class Steady:
    """`with Steady(port, per_s) as load:` asks at moments that do not depend on the answers, each on a connection of its own, in
    a thread of its own. After the block `load.told` holds every answer, in the order of asking."""

    def __init__(self, port: int, per_s: float, tokens: int = 3, key: str = KEY) -> None:
        self.told: list[Told] = []
        self._port, self._every_s, self._tokens = port, 1 / per_s, tokens
        self._headers = {"Authorization": f"Bearer {key}"}
        self._ends = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        self._thread.join()

    async def _run(self) -> None:
        running: set[asyncio.Task[Told]] = set()
        began_s = time.monotonic()
        for number in itertools.count():
            if self._ends.is_set():
                break
            asking = listen(self._port, chat(FIRST_SEED + number, self._tokens), self._headers)
            task = asyncio.ensure_future(asking)
            running.add(task)
            task.add_done_callback(running.discard)
            task.add_done_callback(lambda done: self.told.append(done.result()))
            await asyncio.sleep(max(0.0, began_s + (number + 1) * self._every_s - time.monotonic()))
        await asyncio.gather(*running)
        self.told.sort(key=lambda one: one.asked_s)

    def between(self, begin_s: float, end_s: float) -> list[Told]:
        """Those that were asked for then, on the monotonic clock."""
        return [one for one in self.told if begin_s <= one.asked_s < end_s]

    @property
    def broken(self) -> list[Told]:
        return [one for one in self.told if not one.is_whole]


def took_s(told: list[Told]) -> list[float]:
    """How long each whole answer took from its asking to its last token."""
    return [one.at_s[-1] - one.asked_s for one in told if one.is_whole]


def p99_s(told: list[Told]) -> float:
    return percentile(took_s(told), 0.99)
