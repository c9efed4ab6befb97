"""The thread that an engine computes on: how it begins, how what it says reaches the event loop, and how it ends. What it computes is
the engine's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Thread

from cordee.engine.job import Broken, Deliver, Emission

STOP_S_MAX = 30.0  # what is under way ends first; a long prompt on a slow machine takes seconds


class EngineThread:
    """`run` is the thread, until `halt` has been called, which may come from any thread."""

    def __init__(self, run: Callable[[], None], halt: Callable[[], None]) -> None:
        self._run = run
        self._halt = halt
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self._deliver: Deliver | None = None
        self._broken: Broken | None = None

    @property
    def has_started(self) -> bool:
        return self._thread is not None

    def start(self, deliver: Deliver, broken: Broken) -> None:
        """Called on the event loop's thread, where `deliver` and `broken` are called too."""
        assert self._thread is None, "an engine starts once"
        self._loop = asyncio.get_running_loop()
        self._deliver, self._broken = deliver, broken
        self._thread = Thread(target=self._main, name="engine", daemon=True)
        self._thread.start()

    def hand_over(self, ready: Emission) -> None:
        """What the engine says, to the event loop. Called on the thread."""
        assert self._loop is not None
        assert self._deliver is not None
        try:
            self._loop.call_soon_threadsafe(self._deliver, ready)
        except RuntimeError:
            self._halt()  # the event loop is closed: nobody is there to hear

    def tell(self, why: str) -> None:
        """The engine cannot go on. Called on any thread."""
        assert self._loop is not None
        assert self._broken is not None
        try:
            self._loop.call_soon_threadsafe(self._broken, why)
        except RuntimeError:
            return  # the event loop is closed: the process is ending already

    def stop(self, patience_s: float = STOP_S_MAX) -> bool:
        """Waits for what is under way. False: it does not end, the kernels are still in use, and nothing of theirs may be freed."""
        assert self._thread is not None
        self._halt()
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    def _main(self) -> None:
        try:
            self._run()
        except Exception as error:  # whatever it was: the process must not live on without its engine
            self.tell(f"{type(error).__name__}: {error}")
