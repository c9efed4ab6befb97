"""Whether a command that works on the databases of services works on those that the running platform uses."""

from __future__ import annotations

from pathlib import Path

from cordee.compose.reload import resolved_file
from cordee.config.load import ConfigError, Loaded, load, trace
from cordee.config.tree import Config
from cordee.supervisor.asking import NotRunningError, ask_status


def of_services(config_file: Path | None, data: Path) -> Config:
    """The configuration of an installation, for work on its services' databases. Raises ConfigError."""
    loaded = trace(config_file, data)
    need_same(loaded, data)
    return loaded.config


def need_same(loaded: Loaded, data: Path) -> None:
    """A platform that runs may have been started with another file: then other databases would be worked on than those it writes
    to. Raises ConfigError."""
    try:
        ask_status(data)
        running = load(resolved_file(data), data, environ={})
    except NotRunningError:
        return
    if running.services != loaded.config.services:
        raise ConfigError(
            f"the platform of {data} runs with other settings for its services than {loaded.file or 'the defaults'}: give the file that "
            "it was started with as --config FILE"
        )
