"""The one way to the shared store: commands asked for in one pass of the loop go out together, and nobody waits long.

The store may be dead, frozen, slow, full, or not a store at all. Every exchange with it is bounded by `timeout_s`; after some
failures in a row it is left alone for a while and every question is answered with AwayError at once, so that calls which could
do without it lose nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from cordee.adapters.redis.ways import Argument, way
from cordee.ports import AwayError

log = logging.getLogger(__name__)
LATE_S = 0.02  # a timer that comes later than this says more about this process than about the store
TICKS, LATE_TICKS_MAX = 5, 40  # in which a time limit is counted; how many of them may be late
PIPELINE_MAX = 256  # commands that go out together


@dataclass(frozen=True, slots=True)
class StoreRules:
    """See config.sections.kept.Store."""

    timeout_s: float = 0.25
    failures: int = 3
    away_s: float = 1.0
    connections: int = 8
    pending_max: int = 20_000


class Patience:
    """Ends `limit` after `timeout_s` in which this process was on time: where it was late itself, what came meanwhile has not
    been read yet, and says nothing about the other side."""

    __slots__ = ("_due_s", "_late", "_limit", "_loop", "_on_time", "_tick_s", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: asyncio.Timeout, timeout_s: float) -> None:
        self._loop = loop
        self._limit = limit
        self._tick_s = timeout_s / TICKS
        self._on_time = self._late = 0
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self._wait()

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        self._due_s = self._loop.time() + self._tick_s
        self._timer = self._loop.call_later(self._tick_s, self._tick)

    def _tick(self) -> None:
        if self._loop.time() - self._due_s > LATE_S and self._late < LATE_TICKS_MAX:
            self._late += 1
        else:
            self._on_time += 1
        if self._on_time < TICKS:
            self._wait()
        else:
            self._limit.reschedule(self._loop.time())


class _Asked:
    """A command and who waits for what it returns."""

    __slots__ = ("command", "reply")

    def __init__(self, command: tuple[Argument, ...], reply: asyncio.Future[Any]) -> None:
        self.command = command
        self.reply = reply


class Store:
    """The Redis or Valkey that `url` names (ways.py). Needs a running event loop.

    `errors` counts exchanges that failed; `is_up`: the last one did not.
    """

    def __init__(self, url: str, rules: StoreRules) -> None:
        self.rules = rules
        self.errors = 0
        self.is_up = True
        self._loop = asyncio.get_running_loop()
        self._way = way(url, rules.connections, rules.timeout_s)
        self._asked: list[_Asked] = []
        self._flushes: set[asyncio.Task[None]] = set()
        self._pending = 0
        self._is_sending = False
        self._failures = 0
        self._away_until_s = 0.0

    async def run(self, *command: Argument) -> Any:
        """What the store replies: bytes, int, None or lists of them. Raises AwayError."""
        if self._loop.time() < self._away_until_s:
            raise AwayError("the store did not answer lately and is left alone for a moment")
        if self._pending >= self.rules.pending_max:
            raise AwayError(f"{self._pending} commands wait for the store already")
        asked = _Asked(command, self._loop.create_future())
        self._pending += 1
        self._asked.append(asked)
        if not self._is_sending:
            self._is_sending = True
            self._loop.call_soon(self._send)
        try:
            return await asked.reply
        finally:
            self._pending -= 1

    async def both(self, first: Coroutine[Any, Any, Any], second: Coroutine[Any, Any, Any]) -> None:
        """Two commands that go out together, in this order. Raises AwayError."""
        failed = await asyncio.gather(first, second, return_exceptions=True)
        for one in failed:
            if isinstance(one, BaseException):
                raise one

    async def close(self) -> None:
        for flush in self._flushes:
            flush.cancel()
        await self._way.close()

    def _send(self) -> None:
        """As many exchanges as there are connections; what is asked for meanwhile goes out together with the next one."""
        self._is_sending = False
        while self._asked and len(self._flushes) < self.rules.connections:
            asked, self._asked = self._asked[:PIPELINE_MAX], self._asked[PIPELINE_MAX:]
            flush = self._loop.create_task(self._exchange(asked))
            self._flushes.add(flush)
            flush.add_done_callback(self._sent)

    def _sent(self, flush: asyncio.Task[None]) -> None:
        self._flushes.discard(flush)
        if self._asked:
            self._send()

    async def _exchange(self, asked: list[_Asked]) -> None:
        try:
            async with asyncio.timeout(None) as limit:
                with Patience(self._loop, limit, self.rules.timeout_s):
                    replies = await self._way.exchange([one.command for one in asked])
        except (Exception, asyncio.CancelledError) as error:  # whatever it was, nobody may wait for ever
            self._failed(error)
            for one in asked:
                if not one.reply.done():
                    one.reply.set_exception(AwayError(f"the store does not answer: {_words(error)}"))
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        refused = None
        for one, reply in zip(asked, replies, strict=True):
            if isinstance(reply, Exception):
                refused = reply
            if one.reply.done():
                continue
            if isinstance(reply, Exception):
                one.reply.set_exception(AwayError(f"the store refused: {_words(reply)}"))
            else:
                one.reply.set_result(reply)
        if refused is not None:  # it lives, but is full, loading, a replica that may not write …
            self.errors += 1
            self._say(refused)
        else:
            if not self.is_up:
                log.info("the store answers again")
            self.is_up = True
        self._failures = 0

    def _failed(self, error: BaseException) -> None:
        self.errors += 1
        self._failures += 1
        if self._failures >= self.rules.failures:
            self._away_until_s = self._loop.time() + self.rules.away_s
            waiting, self._asked = self._asked, []
            for one in waiting:
                if not one.reply.done():
                    one.reply.set_exception(AwayError("the store does not answer"))
        self._say(error)

    def _say(self, error: BaseException) -> None:
        if self.is_up:
            log.warning("the store cannot be used: %s", _words(error))
        self.is_up = False


def _words(error: BaseException) -> str:
    return str(error)[:200] or type(error).__name__
