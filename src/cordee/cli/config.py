"""`cordee config`: whether the configuration is right, and what it comes to."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from cordee.config.describe import sections, settings, values
from cordee.config.load import DEFAULT, ConfigError, Loaded, data_dir, trace
from cordee.config.tree import Config

USAGE_ERROR = 2

_EXAMPLES = """examples:
  cordee config check                    the configuration that `cordee up` would use
  cordee config check ./cordee.toml      one file, with the environment on top of it
  cordee config show                     every setting, its value, where it comes from, what is allowed
  cordee config show --defaults > cordee.toml
                                         a file to start from

Where settings come from, later ones winning: defaults; one file (--config FILE, else CORDEE_CONFIG, else DIR/cordee.toml,
else ./cordee.toml); the environment (CORDEE_ENGINE_SLOTS=4 sets engine.slots); the command line."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    form = argparse.RawDescriptionHelpFormatter
    top = commands.add_parser("config", help="check or show the configuration", epilog=_EXAMPLES, formatter_class=form)
    actions = top.add_subparsers(metavar="ACTION", required=True)
    check = actions.add_parser("check", help="say whether it is right", epilog=_EXAMPLES, formatter_class=form)
    check.add_argument("file", nargs="?", type=Path, metavar="FILE", help="the file to check instead of the usual one")
    check.add_argument("--data", metavar="DIR", help="data directory")
    check.set_defaults(run=_check)
    show = actions.add_parser("show", help="print it as a commented file", epilog=_EXAMPLES, formatter_class=form)
    show.add_argument("--defaults", action="store_true", help="the defaults, whatever is configured")
    show.add_argument("--config", type=Path, metavar="FILE", help="read this file instead of the usual one")
    show.add_argument("--data", metavar="DIR", help="data directory")
    show.set_defaults(run=_show)


def _check(args: argparse.Namespace) -> int:
    try:
        loaded = trace(args.file, data_dir(args.data))
    except ConfigError as error:
        print(f"cordee: {error}", file=sys.stderr)
        return USAGE_ERROR
    changed = sum(origin != DEFAULT for origin in loaded.origins.values())
    where = f"{loaded.file}" if loaded.file else "no file, only defaults and the environment"
    print(f"right: {where}; {changed} of {len(loaded.origins)} settings are set, the others have their default")
    return 0


def _show(args: argparse.Namespace) -> int:
    try:
        loaded = _defaults() if args.defaults else trace(args.config, data_dir(args.data))
    except ConfigError as error:
        print(f"cordee: {error}", file=sys.stderr)
        return USAGE_ERROR
    print("\n".join(document(loaded)))
    return 0


def document(loaded: Loaded) -> Iterator[str]:
    """The lines of a commented file that sets every setting as `loaded` has it."""
    about, current, section = sections(), values(loaded.config), None
    yield f"# {about['']} `cordee config check` reads this file."
    # What stands alone first, then each table once and whole, in the order of the tree.
    tables = list(dict.fromkeys(("", *(setting.section for setting in settings().values()))))
    for setting in sorted(settings().values(), key=lambda setting: tables.index(setting.section)):
        if setting.section != section:
            section = setting.section
            if section:
                yield from ("", f"# {about[section]}", f"[{section}]")
        origin = loaded.origins[setting.key]
        facts = [setting.unit, setting.allowed, "" if origin == DEFAULT else f"from {origin}"]
        line = f"{setting.name} = {_toml(msgspec.to_builtins(current[setting.key]))}"
        yield f"{line:<36}  # {'; '.join(filter(None, facts))}"


def _toml(value: object) -> str:
    """One value as TOML writes it; a list or a table on one line. JSON's escapes are TOML's."""
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{json.dumps(name)} = {_toml(inner)}" for name, inner in value.items() if inner is not None)
            + "}"
        )
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _defaults() -> Loaded:
    return Loaded(Config(), dict.fromkeys(settings(), DEFAULT), None)
