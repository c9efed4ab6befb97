"""A coroutine and the facts it waits for, without an event loop.

A call's coroutine sleeps while chunks are pushed past it; it wakes for the few facts that need a decision. Running it as an
asyncio task would cost several microseconds and two passes through the loop per wake-up. Here `post` resumes the coroutine
in place, in the callback that learned the fact, and the same coroutine runs in the simulator, where there is no event loop
at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

Fact = TypeVar("Fact")


class Mailbox(Generic[Fact]):
    """Facts for one coroutine, delivered in the order of posting. `await mailbox.next()` takes one."""

    __slots__ = ("_coroutine", "_facts", "_running", "_waiting")

    def __init__(self) -> None:
        self._facts: deque[Fact] | None = None  # made when first needed: most calls never queue a fact
        self._coroutine: Coroutine[Any, Fact, None] | None = None
        self._running = False
        self._waiting = False

    def run(self, coroutine: Coroutine[Any, Fact, None]) -> None:
        """Run the coroutine up to its first wait. It must await nothing but this mailbox, and let no exception out."""
        assert self._coroutine is None, "a mailbox serves one coroutine"
        self._coroutine = coroutine
        self._resume(None)

    def post(self, fact: Fact) -> None:
        """Deliver a fact; if the coroutine waits, it runs on before this returns. After its end facts are dropped."""
        if self._coroutine is None:
            return
        if self._waiting and not self._running:
            self._resume(fact)
            return
        if self._facts is None:
            self._facts = deque()
        self._facts.append(fact)

    def next(self) -> Mailbox[Fact]:
        """To be awaited: the next fact."""
        return self

    def __await__(self) -> Generator[None, Fact, Fact]:
        if self._facts:
            return self._facts.popleft()
        self._waiting = True
        fact = yield
        return fact

    def _resume(self, fact: Fact | None) -> None:
        coroutine = self._coroutine
        assert coroutine is not None
        self._running, self._waiting = True, False
        try:
            coroutine.send(fact)  # type: ignore[arg-type]
        except StopIteration:
            self._coroutine = None
            self._facts = None
        finally:
            self._running = False
