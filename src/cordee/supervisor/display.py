"""The live screen of `cordee up`: listens to events, and draws when something has changed, four times a second at most."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress

from rich.console import Console
from rich.live import Live

from cordee.supervisor.events import Event
from cordee.supervisor.screen import draw
from cordee.supervisor.supervise import Supervisor

LOOK_S = 0.25  # how soon a birth or a death is seen
DRAW_S = 1.0  # clock and load move by the second: drawing costs some milliseconds of a core that engines could use
NOTICE_S = 20.0  # how long the last warning stays


class Display:
    """An event listener that keeps the last warning, and the screen around a running supervisor."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._home = os.environ.get("HOME", "")
        self._notice = ""
        self._notice_s = 0.0

    def __call__(self, event: Event) -> None:
        if event.level >= logging.WARNING:
            self._notice = event.sentence()
            self._notice_s = _now()

    async def during(self, supervisor: Supervisor) -> None:
        """Run it and show it; the terminal is as it was before when this returns."""
        with Live(console=self._console, screen=True, auto_refresh=False, redirect_stdout=False) as live:
            drawing = asyncio.create_task(self._draw(live, supervisor), name="draw")
            try:
                await supervisor.run()
            finally:
                drawing.cancel()
                with suppress(asyncio.CancelledError):
                    await drawing

    async def _draw(self, live: Live, supervisor: Supervisor) -> None:
        drawn_s, drawn = 0.0, None
        while True:
            status, now = supervisor.status(), _now()
            notice = self._notice if now - self._notice_s < NOTICE_S else ""
            facts = (status.state, notice, [(one.pid, one.state) for one in status.processes], self._console.size)
            if facts != drawn or now - drawn_s >= DRAW_S:
                live.update(draw(status, self._console.height, notice, self._home), refresh=True)
                drawn_s, drawn = now, facts
            await asyncio.sleep(LOOK_S)


def _now() -> float:
    return asyncio.get_running_loop().time()
