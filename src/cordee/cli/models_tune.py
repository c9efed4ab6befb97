"""`cordee models tune`: the engine's settings for this machine, measured."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cordee.adapters.durable import locked, replace
from cordee.adapters.model_sources import ModelError
from cordee.cli.complaint import complain
from cordee.cli.models_quantize import progress_bar
from cordee.compose import tuning
from cordee.config.edit import with_numbers
from cordee.config.file import FILE_NAME
from cordee.config.load import ConfigError, Loaded, cache_dir, data_dir, trace
from cordee.kernels.library import KernelsError
from cordee.policy.tuning import Measured, Trial

FAILURE, USAGE_ERROR = 1, 2
SECONDS, SECONDS_MIN, SECONDS_MAX = 1.0, 0.1, 30.0
MS = 1e3
NEW_FILE_MODE = 0o644
SETTINGS = ("threads", "slots", "ubatch", "prefill_tokens_max")
LOCK_SUFFIX = ".lock"


def add(actions: argparse._SubParsersAction[argparse.ArgumentParser], epilog: str) -> argparse.ArgumentParser:
    parser = actions.add_parser(
        "tune",
        help="measure which engine settings suit this machine",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="default: the configured model")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, metavar="N", help=f"of writing, for each trial (default {SECONDS:g})"
    )
    parser.add_argument("--write", action="store_true", help="put what is recommended into the configuration file")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    if not SECONDS_MIN <= args.seconds <= SECONDS_MAX:
        return complain(f"--seconds {args.seconds:g}: must be {SECONDS_MIN:g} to {SECONDS_MAX:g}", USAGE_ERROR)
    try:
        return _run(args)
    except (ModelError, KernelsError) as error:
        return complain(str(error), FAILURE)
    except ConfigError as error:
        return complain(str(error), USAGE_ERROR)
    except OSError as error:
        return complain(f"{error.filename}: {error.strerror}; nothing was written", FAILURE)


def _run(args: argparse.Namespace) -> int:
    data = data_dir(args.data)
    loaded = trace(args.config, data)
    of = tuning.subject(loaded.config, args.model, cache_dir())
    count = len(of.cores)
    print(
        f"{of.path.name} on {count} processor{'s' if count > 1 else ''} ({', '.join(map(str, of.cores))}), as `cordee up` gives a worker"
    )
    with progress_bar("measuring") as told:
        best = tuning.tune(of, args.seconds, told, _show)
    numbers = {name: value for name, value in asdict(best).items() if name in SETTINGS}
    if best.threads == count:
        numbers["threads"] = 0  # as many as there are: also where a worker has more
    lines = [f"{name} = {numbers[name]}" for name in SETTINGS]
    print("\nrecommended:\n\n[engine]\n" + "\n".join(lines))
    trace(args.config, data, {f"engine.{name}": value for name, value in numbers.items()})
    if args.write:
        _write(loaded, args.config or loaded.file or data / FILE_NAME, numbers)
    return 0


def _show(what: str, measured: Sequence[Measured]) -> None:
    """Only the columns of which something was asked."""
    columns: dict[str, list[str]] = {what: [str(_value(what, trial)) for trial, _ in measured]}
    if any(trial.neighbour for trial, _ in measured):
        columns["beside"] = ["a busy process" if trial.neighbour else "–" for trial, _ in measured]
    columns["tokens/s written"] = [_number(figures.written) for _, figures in measured]
    columns["tokens/s read"] = [_number(figures.read) for _, figures in measured]
    columns["between tokens"] = [_number(figures.gap_s * MS, " ms") for _, figures in measured]
    columns["to a first token"] = [_number(figures.first_s * MS, " ms") for _, figures in measured]
    told = {name: values for name, values in columns.items() if any(values)}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in told:
        table.add_column(name, justify="right", no_wrap=True)
    for row in zip(*told.values(), strict=True):
        table.add_row(*row)
    print()
    Console(markup=False, highlight=False).print(table)


def _number(value: float, unit: str = "") -> str:
    return f"{value:.0f}{unit}" if value else ""


def _value(what: str, trial: Trial) -> int:
    value: int = getattr(trial, what)
    return value


def _write(loaded: Loaded, file: Path, numbers: Mapping[str, int]) -> None:
    """Only these settings, all of them or nothing. Raises ConfigError, OSError."""
    file = file.resolve()
    file.parent.mkdir(parents=True, exist_ok=True)
    with locked(file.with_name(file.name + LOCK_SUFFIX)):
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        after = with_numbers(file, before, "engine", numbers)
        if after == before:
            print(f"\n{file}: says so already")
            return
        replace(file, after.encode(), file.stat().st_mode & 0o777 if file.exists() else NEW_FILE_MODE)
    print(f"\n{file}:")
    print(
        "".join(difflib.unified_diff(before.splitlines(True), after.splitlines(True), "before", "after", n=1)), end=""
    )
    for name in numbers:
        origin = loaded.origins[f"engine.{name}"]
        if origin.startswith("environment"):
            print(f"cordee: warning: {origin} still decides engine.{name}; unset it", file=sys.stderr)
