"""`cordee models`: what can be served, and getting it onto this machine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cordee.adapters import kernels_fetch, models
from cordee.adapters.kernels_fetch import KernelsError
from cordee.adapters.models import ModelError
from cordee.cli import loading, models_quantize, models_tune
from cordee.compose.lora import check_adapters
from cordee.config.load import ConfigError, cache_dir, data_dir, load

FAILURE, USAGE_ERROR = 1, 2

_EXAMPLES = """examples:
  cordee models list
  cordee models pull                              the configured model, and the library that runs it
  cordee models pull hf:OWNER/REPO/FILE.gguf      any GGUF of the Hugging Face hub
  cordee models verify                            the configured model, byte by byte
  cordee models verify ./my-model.gguf
  cordee models quantize ./f16.gguf --list        what it would become
  cordee models quantize ./f16.gguf ./q4.gguf --type Q4_K_M
  cordee models tune                              which engine settings suit this machine; half a minute
  cordee models tune --write                      and put them into the configuration file

Downloads are kept in the cache: CORDEE_CACHE, else $XDG_CACHE_HOME/cordee, else ~/.cache/cordee."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    form = argparse.RawDescriptionHelpFormatter
    top = commands.add_parser("models", help="list, fetch and verify models", epilog=_EXAMPLES, formatter_class=form)
    actions = top.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="what can be served", epilog=_EXAMPLES, formatter_class=form)
    listing.set_defaults(run=_list)
    pull = actions.add_parser("pull", help="fetch a model and what runs it", epilog=_EXAMPLES, formatter_class=form)
    pull.add_argument("model", nargs="?", metavar="NAME", help="a name of the list, or hf:OWNER/REPO/FILE.gguf")
    pull.add_argument("--no-kernels", action="store_true", help="only the model, not llama.cpp's library")
    pull.set_defaults(run=_pull)
    verify = actions.add_parser("verify", help="check a model's file", epilog=_EXAMPLES, formatter_class=form)
    verify.add_argument("model", nargs="?", metavar="NAME|PATH", help="default: the configured model")
    verify.set_defaults(run=_verify)
    loading.add(actions)
    listing.add_argument("--data", metavar="DIR", help="data directory of a platform whose models are shown too")
    for action in (pull, verify, models_quantize.add(actions, _EXAMPLES), models_tune.add(actions, _EXAMPLES)):
        action.add_argument("--config", type=Path, metavar="FILE", help="configuration file")
        action.add_argument("--data", metavar="DIR", help="data directory")


def _list(args: argparse.Namespace) -> int:
    try:
        cache, data = cache_dir(), data_dir(args.data)
    except ConfigError as error:
        return _failed(error)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("name", overflow="fold")
    table.add_column("size", justify="right")
    for column in ("licence", "here", "what"):
        table.add_column(column)
    for entry in models.CATALOGUE:
        table.add_row(entry.name, _megabytes(entry.size), entry.licence, _here(entry.name, cache), entry.about)
    for name, path in models.fetched(cache):
        table.add_row(name, _megabytes(path.stat().st_size), "see its page", "yes", "fetched from the Hugging Face hub")
    table.add_row(
        models.ORACLE, "–", "–", "yes", "no model: token i is a function of the seed and i; for trying and testing"
    )
    Console(markup=False, highlight=False).print(table)
    kernels = kernels_fetch.locate(cache)
    print(f"llama.cpp's library: {kernels or 'not fetched yet; `cordee models pull` does'}")
    loading.show(data)
    return 0


def _pull(args: argparse.Namespace) -> int:
    try:
        config, cache = load(args.config, data_dir(args.data)), cache_dir()
        file = models.pull(args.model or config.model, cache)
        print(f"{file.name}: {file.path or 'needs no file'}")
        if file.path is not None and not args.no_kernels and not config.engine.library:
            print(f"llama.cpp's library: {kernels_fetch.pull(cache)}")
    except (ModelError, KernelsError, ConfigError) as error:
        return _failed(error)
    return 0


def _verify(args: argparse.Namespace) -> int:
    try:
        config = load(args.config, data_dir(args.data))
        model, cache = args.model or config.model, cache_dir()
        pinned = models.resolve(model, cache).sha256 is not None
        file = models.verify(model, cache)
        if args.model is None:
            check_adapters(config, cache)
    except (ModelError, ConfigError) as error:
        return _failed(error)
    if args.model is None and config.adapters:
        print(f"adapters that fit: {', '.join(config.adapters)}")
    if file.path is None:
        print(f"{file.name}: needs no file")
    else:
        print(f"{file.path}: right; SHA-256 {file.sha256}, {'as pinned' if pinned else 'which nothing pins'}")
    return 0


def _here(name: str, cache: Path) -> str:
    try:
        models.resolve(name, cache)
    except ModelError:
        return "no"
    return "yes"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


def _failed(error: ModelError | KernelsError | ConfigError) -> int:
    print(f"cordee: {error}", file=sys.stderr)
    return USAGE_ERROR if isinstance(error, ConfigError) else FAILURE
