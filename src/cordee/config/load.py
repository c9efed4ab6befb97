"""Where settings come from, and which wins: defaults, then one file, then the environment, then the command line.

Each leaf is checked at the place it came from, so that an error can name the file, the line, the key and what is allowed.
Nothing is merged half: either the whole tree is right, or there is a ConfigError and no configuration.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from cordee.config.checks import problems
from cordee.config.describe import ENVIRONMENT_PREFIX, Setting, settings
from cordee.config.file import FILE_NAME, ConfigError, ConfigFile
from cordee.config.tree import Config

__all__ = [
    "DEFAULT", "RESERVED", "ConfigError", "Loaded", "cache_dir", "data_dir", "load", "trace",
]  # fmt: skip

RESERVED = frozenset(
    {"CORDEE_ADMIN_KEY", "CORDEE_CONTROL", "CORDEE_CACHE", "CORDEE_DATA", "CORDEE_CONFIG", "CORDEE_REPLICA_KEY"}
)
CREDENTIALS = re.compile(r"://[^\s/\"]*@")  # of a URL: an error may be read by others than the file
VALUE_CHARACTERS_SHOWN = 80  # of a wrong value, in the message about it
_NOTHING: Mapping[str, object] = MappingProxyType({})
DEFAULT = "default"  # the origin of what nobody set


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and where each of its leaves came from ("default", "FILE, line 3", …), by dotted key."""

    config: Config
    origins: Mapping[str, str]
    file: Path | None


@dataclass(frozen=True, slots=True)
class _Given:
    """A value somebody wrote, the words for where, and whether it was written as text that stands for its type."""

    value: object
    origin: str
    text: bool = False


def load(
    config_file: Path | None,
    data: Path,
    overrides: Mapping[str, object] = _NOTHING,
    environ: Mapping[str, str] = os.environ,
) -> Config:
    """The configuration. `overrides` has dotted keys; None in it means "not given". Raises ConfigError."""
    return trace(config_file, data, overrides, environ).config


def trace(
    config_file: Path | None,
    data: Path,
    overrides: Mapping[str, object] = _NOTHING,
    environ: Mapping[str, str] = os.environ,
) -> Loaded:
    """Like `load`, and tells where each value came from."""
    known = settings()
    file = _choose_file(config_file, data, environ)
    given: dict[str, _Given] = {}
    if file is not None:
        given.update(_from_file(file, known))
    given.update(_from_environment(environ, known))
    given.update(_from_overrides(overrides, known))
    tree: dict[str, Any] = {}
    for key, setting in known.items():
        value = _checked(setting, given[key]) if key in given else setting.default
        table = tree
        for name in filter(None, setting.section.split(".")):
            table = table.setdefault(name, {})
        table[setting.name] = value
    config = msgspec.convert(tree, Config)
    origins = {key: given[key].origin if key in given else DEFAULT for key in known}
    for key, problem in problems(config):
        raise ConfigError(f"{_place(origins[key])}{key} {problem}.")
    return Loaded(config, origins, file)


def data_dir(arg: str | None, environ: Mapping[str, str] = os.environ) -> Path:
    """The data directory: the argument, else CORDEE_DATA, else the user's own by the XDG rules. Absolute; not created."""
    return _directory(arg or environ.get("CORDEE_DATA"), environ, "XDG_DATA_HOME", ".local/share", "--data DIR")


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where downloads are kept: CORDEE_CACHE, else the user's own by the XDG rules. Absolute; not created."""
    return _directory(environ.get("CORDEE_CACHE"), environ, "XDG_CACHE_HOME", ".cache", "CORDEE_CACHE=DIR")


def _directory(chosen: str | None, environ: Mapping[str, str], variable: str, below_home: str, cure: str) -> Path:
    if chosen:
        return Path(chosen).expanduser().absolute()
    base = Path(environ.get(variable, ""))
    if not base.is_absolute():  # the XDG specification: a relative one is to be ignored
        home = environ.get("HOME", "")
        if not Path(home).is_absolute():
            raise ConfigError(f"neither {variable} nor HOME is set to an absolute path; say where with {cure}.")
        base = Path(home) / below_home
    return base / "cordee"


def _choose_file(explicit: Path | None, data: Path, environ: Mapping[str, str]) -> Path | None:
    if explicit is None and environ.get("CORDEE_CONFIG"):
        explicit = Path(environ["CORDEE_CONFIG"])
    if explicit is not None:
        return explicit
    # A file that is there but cannot be looked at counts as chosen: reading it then says why.
    return next((path for path in (data / FILE_NAME, Path(FILE_NAME)) if os.path.lexists(path)), None)


def _from_file(file: Path, known: Mapping[str, Setting]) -> Iterator[tuple[str, _Given]]:
    parsed = ConfigFile(file)
    origin = parsed.origin
    tables = _tables(known)

    def walk(table: Mapping[str, object], prefix: str) -> Iterator[tuple[str, _Given]]:
        for name, value in table.items():
            key = prefix + name
            if "." in name:  # a quoted name; it must not pass for the path of the same letters
                raise ConfigError(f'{origin(key)}: "{name}" in quotes is one name; write {name} without them.')
            if key in tables:
                if not isinstance(value, dict):
                    raise ConfigError(
                        f"{origin(key)}: {key} = {_shown(value)}: {key} is a table; write [{key}] above its keys."
                    )
                yield from walk(value, key + ".")
            elif key in known:
                yield key, _Given(value, origin(key))
            else:
                raise ConfigError(f"{origin(key)}: there is no setting {key}; {_meant(key, known, tables)}")

    return walk(parsed.content, "")


def _tables(known: Mapping[str, Setting]) -> set[str]:
    """Every table of the tree, the outer ones of nested ones included."""
    found: set[str] = set()
    for section in {setting.section for setting in known.values() if setting.section}:
        names = section.split(".")
        found.update(".".join(names[: depth + 1]) for depth in range(len(names)))
    return found


def _from_environment(environ: Mapping[str, str], known: Mapping[str, Setting]) -> Iterator[tuple[str, _Given]]:
    variables = {setting.variable: setting.key for setting in known.values()}
    for name, value in environ.items():
        if name in RESERVED or not _is_ours(name):
            continue
        if name not in variables:
            near = difflib.get_close_matches(name, [*variables, *RESERVED], n=1, cutoff=0.75)
            hint = f"did you mean {near[0]}?" if near else "`cordee config show` lists what can be set."
            raise ConfigError(f"environment variable {name}: there is no such setting; {hint}")
        yield variables[name], _Given(value, f"environment variable {name}", text=True)


def _from_overrides(overrides: Mapping[str, object], known: Mapping[str, Setting]) -> Iterator[tuple[str, _Given]]:
    for key, value in overrides.items():
        if value is None:
            continue
        if key not in known:
            raise ConfigError(f"command line: there is no setting {key}; {_meant(key, known, set())}")
        yield key, _Given(value, "command line", text=isinstance(value, str))


def _checked(setting: Setting, given: _Given) -> object:
    raw = given.value
    if given.text and isinstance(raw, str) and isinstance(setting.default, tuple | dict):
        try:
            raw = msgspec.json.decode(raw)  # a list or a table in a variable is written as JSON
        except msgspec.DecodeError as error:
            raise ConfigError(_refusal(setting, given) + " A variable holds it as JSON.") from error
    try:
        value = msgspec.convert(raw, setting.type, strict=not given.text)
    except msgspec.ValidationError as error:
        # Of a list or a table the message of the converter says which part is wrong; of anything else we say it better.
        inner = f" {error}." if isinstance(raw, list | dict) and isinstance(setting.default, tuple | dict) else ""
        raise ConfigError(_refusal(setting, given) + inner) from error
    for leaf in _leaves(msgspec.to_builtins(value)):
        if isinstance(leaf, float) and not math.isfinite(leaf):
            raise ConfigError(_refusal(setting, given))
        if (
            isinstance(leaf, str) and not leaf.isprintable()
        ):  # would forge log lines and cannot be a path, name or address
            raise ConfigError(_refusal(setting, given) + " Control characters are not allowed.")
    return value


def _leaves(value: object) -> Iterator[object]:
    """The plain values in a list or table, names included; a plain value is its own."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield name
            yield from _leaves(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value


def _refusal(setting: Setting, given: _Given) -> str:
    unit = f" ({setting.unit})" if setting.unit else ""
    return f"{_place(given.origin)}{setting.key} = {_shown(given.value)} is not allowed: it must be {setting.allowed}{unit}."


def _place(origin: str) -> str:
    return "" if origin == DEFAULT else f"{origin}: "


def _shown(value: object) -> str:
    written = CREDENTIALS.sub("://…@", json.dumps(value, default=str, ensure_ascii=True))
    return written if len(written) <= VALUE_CHARACTERS_SHOWN else written[:VALUE_CHARACTERS_SHOWN] + "…"


def _meant(key: str, known: Mapping[str, Setting], tables: set[str]) -> str:
    section = key.rpartition(".")[0]
    near = difflib.get_close_matches(key, [*known, *tables], n=1, cutoff=0.7)
    # A right name in the wrong table, or without its table, is the other common slip.
    near = near or [other for other, setting in known.items() if setting.name == key.rpartition(".")[2]][:1]
    hint = f"did you mean {near[0]}? " if near else ""
    here = [setting.name for setting in known.values() if setting.section == section]
    if not section:
        here += sorted(tables)
    allowed = f"allowed {f'in [{section}]' if section else 'here'}: {', '.join(here)}." if here else ""
    return hint + (allowed or "`cordee config show` lists what can be set.")


def _is_ours(name: str) -> bool:
    return name.startswith(ENVIRONMENT_PREFIX)
