"""A running process and its configuration: read anew on SIGHUP, checked as at the start, and taken as a whole or not at all.

Each rule that can change is one line: which settings it is made of, how it is made of them, and who takes it. All rules are
made before the first one is handed over, and they are handed over without giving the event loop a turn in between, so every call
sees either the rules of before or those of after.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from cordee.config.file import ConfigError
from cordee.config.reload import Merged, is_live, merge, revision
from cordee.config.tree import Config

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Rule:
    keys: tuple[str, ...]
    make: Callable[[Config], Any]
    take: Callable[[Any], None]


class Following:
    """`reread` gives the configuration as it would be at a start now, and raises ConfigError when there is none."""

    def __init__(self, config: Config, reread: Callable[[], Config]) -> None:
        self.config = config
        self.revision = revision(config)
        self._reread = reread
        self._rules: list[_Rule] = []
        self._running: asyncio.Task[None] | None = None
        self._again = False

    def follow(self, keys: tuple[str, ...], make: Callable[[Config], T], take: Callable[[T], None]) -> None:
        """`keys`: settings or whole sections (`queue.`) of `config.reload.LIVE`. `make` may raise ValueError for values that
        cannot be; `take` must not fail."""
        assert all(is_live(key) for key in keys), f"not all of {keys} are in config.reload.LIVE"
        self._rules.append(_Rule(keys, make, take))

    @property
    def keys(self) -> frozenset[str]:
        """Everything somebody follows."""
        return frozenset(key for rule in self._rules for key in rule.keys)

    def hup(self) -> None:
        """For the signal. Reading and checking happens in a thread: nobody's tokens wait for it."""
        if self._running is not None and not self._running.done():
            self._again = True
            return
        self._running = asyncio.get_running_loop().create_task(self._reload(), name="reload")

    async def _reload(self) -> None:
        self._again = True
        while self._again:
            self._again = False
            try:
                merged, made = await asyncio.get_running_loop().run_in_executor(None, self._read)
            except (ConfigError, ValueError, OSError) as error:
                log.error("the configuration was not taken, the one before goes on: %s", error)
                continue
            for rule, rules in made:
                rule.take(rules)
            self.config, self.revision = merged.config, revision(merged.config)
            if merged.held:
                log.warning("needs a restart: %s", ", ".join(merged.held))
            log.info("configuration %s taken: %s", self.revision, ", ".join(merged.taken) or "nothing has changed")

    def _read(self) -> tuple[Merged, list[tuple[_Rule, Any]]]:
        merged = merge(self.config, self._reread())
        return merged, [(rule, rule.make(merged.config)) for rule in self._rules]
