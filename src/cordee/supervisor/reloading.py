"""A new configuration and the processes: each is told, each says what it runs with, and who says something else is told again.

What counts is what a process reports, not that a signal was sent: one that was just starting may have read the file before it
changed, and would otherwise go on with the old rules for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cordee.supervisor.watched import Watched

PATIENCE_S = 5.0  # a process reports twice a second
LOOK_S = 0.05
TELL_AGAIN_S = 1.0  # doubled each time: one that cannot take it says why in its log, which need not be filled with that
TELL_AGAIN_S_MAX = 60.0
FOLLOWERS = ("web", "mobile", "worker")  # those of them that say with which configuration they run


class RefusedError(Exception):
    """The configuration cannot be taken, and nothing has changed; the message says what is wrong and where."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What is in force from now on: its name, the keys that are new, and those that wait for a restart."""

    revision: str
    taken: tuple[str, ...]
    held: tuple[str, ...]


class Spread:
    """Keeps every gateway and worker at one revision."""

    def __init__(self, revision: str, watched: Callable[[], Iterable[Watched]]) -> None:
        self._revision = revision
        self._watched = watched
        self._told_s: dict[str, float] = {}
        self._pause_s: dict[str, float] = {}

    def announce(self, revision: str, now: float) -> None:
        """From now on this one."""
        self._revision = revision
        self._pause_s.clear()
        for one in self._behind():
            self._tell(one, now)

    def heard(self, one: Watched, now: float) -> None:
        """A process has reported."""
        name = one.spec.name
        if not self._is_behind(one):
            self._pause_s.pop(name, None)
        elif now - self._told_s.get(name, 0.0) >= self._pause_s.get(name, 0.0):
            self._tell(one, now)

    async def settled(self) -> list[str]:
        """Wait until all that run have it, for a few seconds; returns the names of those that have not."""
        clock = asyncio.get_running_loop().time
        end = clock() + PATIENCE_S
        while self._behind() and clock() < end:
            await asyncio.sleep(LOOK_S)
        return [one.spec.name for one in self._behind()]

    def _behind(self) -> list[Watched]:
        return [one for one in self._watched() if self._is_behind(one)]

    def _is_behind(self, one: Watched) -> bool:
        return one.spec.role in FOLLOWERS and bool(one.revision) and one.revision != self._revision

    def _tell(self, one: Watched, now: float) -> None:
        name = one.spec.name
        self._told_s[name] = now
        self._pause_s[name] = min(TELL_AGAIN_S_MAX, 2 * self._pause_s[name]) if name in self._pause_s else TELL_AGAIN_S
        one.hang_up()
