"""`cordee reload` on the side of the platform: the file is read and checked as at the start, and what can be taken is written down
for the gateways, in one piece, before any of them is told."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from cordee.compose.logs import set_level
from cordee.config.describe import values
from cordee.config.file import ConfigError
from cordee.config.reload import RESERVED, Merged, merge, revision
from cordee.config.tree import Config
from cordee.supervisor.reloading import RefusedError, Taken

EDGE_KEEPS_TIME = "deadlines.total_s"  # the edge lets no stream be silent for longer than it was told at its start


class Reloads:
    """`config`: what runs. `resolved`: the file that gateways read."""

    def __init__(self, config: Config, resolved: Path, reread: Callable[[], Config]) -> None:
        self.config = config
        self._longest_s = config.deadlines.total_s
        self._reserved = {key: values(config)[key] for key in RESERVED}
        self._resolved = resolved
        self._reread = reread

    @property
    def revision(self) -> str:
        return revision(self.config)

    def __call__(self) -> Taken:
        """Raises RefusedError; then nothing has changed."""
        try:
            wanted = self._reread()
            merged = merge(self.config, wanted, self._held_by_the_edge(wanted) | self._held_by_workers(wanted))
            if merged.taken:
                write_resolved(self._resolved, merged.config)
        except ConfigError as error:
            raise RefusedError(str(error)) from error
        except OSError as error:
            raise RefusedError(f"{self._resolved} cannot be written: {error.strerror}; free some space.") from error
        self._take(merged)
        return Taken(revision(merged.config), merged.taken, merged.held)

    def _take(self, merged: Merged) -> None:
        self.config = merged.config
        set_level(merged.config.log_level)

    def _held_by_workers(self, wanted: Config) -> frozenset[str]:
        asked: dict[str, Any] = values(wanted)
        return frozenset(key for key, most in self._reserved.items() if asked[key] > most)

    def _held_by_the_edge(self, wanted: Config) -> frozenset[str]:
        longer = self.config.edge.enabled and wanted.deadlines.total_s > self._longest_s
        return frozenset({EDGE_KEEPS_TIME}) if longer else frozenset()


def resolved_file(data: Path) -> Path:
    """Where the platform of `data` has written down what it runs with."""
    return data / "run" / "config.json"


def write_resolved(path: Path, config: Config) -> None:
    """The whole tree, for the owner only; old or new for whoever reads meanwhile. Raises OSError."""
    new = path.with_name(path.name + ".new")
    content = msgspec.json.format(msgspec.json.encode(config), indent=2)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    new.replace(path)
