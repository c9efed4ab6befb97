"""`cordee models load`, `unload` and the part of `list` that says how the models of a running platform stand."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cordee.cli.complaint import complain
from cordee.config.load import ConfigError, data_dir
from cordee.domain.presence import Presence
from cordee.supervisor.asking import NotRunningError, ask_load, ask_status, ask_unload
from cordee.supervisor.status import ModelStatus, Status

FAILED, USAGE, NOT_RUNNING = 1, 2, 3
LOOK_S = 0.2
LOAD_S = 600.0  # the largest models take minutes from a slow disk
MEGABYTE = 1e6
COLUMNS = ("model", "load", "state", "workers", "calls", "memory")

_EXAMPLES = """examples:
  cordee models load all-minilm-l6-v2     start its workers now, and wait until they answer
  cordee models unload all-minilm-l6-v2   end them when they have finished; the next call starts them again

Only models that the configuration names ([[serve]]) can be loaded, and of them only those with load = "demand" unloaded."""


def add(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    form = argparse.RawDescriptionHelpFormatter
    for name, what, run in (("load", "bring a model into memory", _load), ("unload", "send a model away", _unload)):
        action = actions.add_parser(name, help=what, epilog=_EXAMPLES, formatter_class=form)
        action.add_argument("model", metavar="NAME", help="as clients call it")
        action.add_argument("--data", metavar="DIR", help="data directory")
        action.set_defaults(run=run)


def show(data: Path) -> None:
    """How the models of the platform of `data` stand, if one runs."""
    try:
        status = ask_status(data)
    except NotRunningError:
        return
    print()
    Console(markup=False, highlight=False).print(table(status))


def table(status: Status) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in COLUMNS:
        grid.add_column(column, overflow="fold", justify="right" if column in ("calls", "memory") else "left")
    for one in status.models:
        memory = f"{one.bytes / MEGABYTE:.0f} MB" if one.bytes else "–"
        state = f"{one.state.value}: {one.why}" if one.why else one.state.value
        calls = str(one.open) if one.load == "demand" else "–"
        grid.add_row(one.name, one.load, state, f"{one.ready} of {one.workers} ready", calls, memory)
    return grid


def _load(args: argparse.Namespace) -> int:
    try:
        data = data_dir(args.data)
        said = ask_load(data, args.model)
        end_s = time.monotonic() + LOAD_S
        while said.state in (Presence.LOADING, Presence.UNLOADING, Presence.ABSENT):
            if time.monotonic() >= end_s:
                return complain(
                    f"{args.model} is still {said.state.value} after {LOAD_S:g} s; its log says more", FAILED
                )
            time.sleep(LOOK_S)
            said = _standing(data, args.model)
    except (NotRunningError, ConfigError) as error:
        return _told(error)
    return _said(said, said.state is Presence.LOADED)


def _unload(args: argparse.Namespace) -> int:
    try:
        data = data_dir(args.data)
        said = ask_unload(data, args.model)
        while said.state is Presence.UNLOADING:
            time.sleep(LOOK_S)
            said = _standing(data, args.model)
    except (NotRunningError, ConfigError) as error:
        return _told(error)
    return _said(said, said.state in (Presence.ABSENT, Presence.LOADING))  # loading: a call has asked for it at once


def _standing(data: Path, model: str) -> ModelStatus:
    """Without asking for it once more. Raises NotRunningError where the platform has ended meanwhile."""
    return next(one for one in ask_status(data).models if one.name == model)


def _said(said: ModelStatus, is_well: bool) -> int:
    what = f"{said.name} is {said.state.value}" + (f": {said.why}" if said.why else "")
    if not is_well:
        return complain(what, FAILED)
    print(what)
    return 0


def _told(error: NotRunningError | ConfigError) -> int:
    return complain(str(error), NOT_RUNNING if isinstance(error, NotRunningError) else USAGE)
