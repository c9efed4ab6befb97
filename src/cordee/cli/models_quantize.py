"""`cordee models quantize`: a model file with fewer bits, and what that has cost."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from cordee.adapters.model_sources import ModelError
from cordee.cli.complaint import complain
from cordee.compose import quantizing
from cordee.compose.kernel_child import Progress as Told
from cordee.config.load import ConfigError, cache_dir, data_dir, load
from cordee.kernels.library import KernelsError
from cordee.kernels.quantize import KINDS, kind_named

FAILURE, USAGE_ERROR = 1, 2
MB = 1e6


def run(args: argparse.Namespace) -> int:
    try:
        return _run(args)
    except (ModelError, KernelsError) as error:
        return complain(str(error), FAILURE)
    except ConfigError as error:
        return complain(str(error), USAGE_ERROR)
    except OSError as error:
        return complain(f"{error.filename or args.target}: {error.strerror}; nothing was written", FAILURE)


def _run(args: argparse.Namespace) -> int:
    config = load(args.config, data_dir(args.data))
    source = quantizing.open_source(args.source, config.engine.library, cache_dir())
    if args.list:
        _show_sizes(source)
        return 0
    if args.target is None or args.type is None:
        return complain("name the file to write and its --type; --list shows what there is", USAGE_ERROR)
    kind = kind_named(args.type)
    if kind is None:
        return complain(
            f"there is no type {args.type!r}; there are {', '.join(one.name for one in KINDS)}", USAGE_ERROR
        )
    target = args.target.expanduser().absolute()
    size = next(one for one in quantizing.sizes(source) if one.kind is kind)
    quantizing.require_target(source, target, size, force=args.force, requantize=args.allow_requantize)
    if source.quantised:
        print(
            f"cordee: warning: {source.quantised} tensors of {source.path} are quantised already: the result is worse than from the "
            "original",
            file=sys.stderr,
        )
    with progress_bar("quantising") as told:
        quantizing.quantise(source, target, kind, told)
    was, now = source.path.stat().st_size, target.stat().st_size
    print(f"{target}: {kind.name}, {now / MB:.1f} MB instead of {was / MB:.1f} MB, {size.bits:.2f} bits per weight")
    if not args.no_perplexity:
        with progress_bar("measuring") as told:
            compared = quantizing.compare(source, target, told)
        _show(compared)
    return 0


def _show_sizes(source: quantizing.Source) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("type")
    table.add_column("bits per weight", justify="right")
    table.add_column("size", justify="right")
    table.add_column("what")
    for size in quantizing.sizes(source):
        table.add_row(size.kind.name, f"{size.bits:.2f}", f"{size.bytes / MB:.0f} MB", size.kind.about)
    Console(markup=False, highlight=False).print(table)
    print(
        f"{source.path}: {sum(one.size for one in source.header.tensors) / MB:.0f} MB of weights; all sizes are of the weights alone"
    )


def _show(compared: quantizing.Compared | None) -> None:
    if compared is None:
        print("a model that writes no text has no perplexity: not compared")
        return
    source, target, growth = compared.source, compared.target, compared.growth
    print(
        f"perplexity of the bundled text ({compared.tokens} tokens): {source.value:.3f} ± {source.error:.3f} before, "
        f"{target.value:.3f} ± {target.error:.3f} after: {100 * growth.value:+.2f} % ± {100 * growth.error:.2f} % (one standard error, "
        "token by token)"
    )


@contextmanager
def progress_bar(what: str) -> Iterator[Told]:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, of: shown.update(task, completed=done, total=of)


def add(actions: argparse._SubParsersAction[argparse.ArgumentParser], epilog: str) -> argparse.ArgumentParser:
    parser = actions.add_parser(
        "quantize",
        help="write a model file anew with fewer bits",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SRC", help="a .gguf file, a name of the list, or hf:OWNER/REPO/FILE.gguf")
    parser.add_argument("target", nargs="?", type=Path, metavar="DST", help="the file to write")
    parser.add_argument("--type", metavar="TYPE", help="how to write the weights: Q4_K_M, Q8_0, …")
    parser.add_argument("--list", action="store_true", help="only show the types, and what SRC would become")
    parser.add_argument("--force", action="store_true", help="replace DST if it is there")
    parser.add_argument("--allow-requantize", action="store_true", help="even where SRC is quantised already")
    parser.add_argument("--no-perplexity", action="store_true", help="do not measure what it has cost")
    parser.set_defaults(run=run)
    return parser
