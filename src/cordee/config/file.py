"""The text of one configuration file as plain tables, or a ConfigError that says where it stops being one."""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from pathlib import Path

from cordee.config.lines import line_in_json, line_in_toml

FILE_NAME = "cordee.toml"
FILE_BYTES_MAX = 1 << 20  # the whole tree written out is some kilobytes; more is not a configuration


class ConfigError(Exception):
    """The configuration cannot be used; the message names the place, the key and what is allowed."""


class ConfigFile:
    """A file that was read and understood as TOML or, by its suffix, JSON. Not yet checked against the tree."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError."""
        self._path, self._text = path, _read(path)
        is_json = path.suffix == ".json"
        self._find = line_in_json if is_json else line_in_toml
        self.content = (_parse_json if is_json else _parse_toml)(path, self._text)

    def origin(self, key: str) -> str:
        """The words for where the dotted `key` stands: the file, and the line where it can be found."""
        line = self._find(self._text, key)
        return f"{self._path}, line {line}" if line else f"{self._path}"


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise ConfigError(f"{file}: not a regular file; name a {FILE_NAME} or a .json file.")
            raw = stream.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"{file}: there is no such file; name another with --config FILE.") from error
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read: {error.strerror}; make it readable for this user, or name another with --config FILE."
        ) from error
    if len(raw) > FILE_BYTES_MAX:
        raise ConfigError(f"{file}: longer than {FILE_BYTES_MAX} bytes; this is not a configuration file.")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}, line {line}: not UTF-8 (byte {error.start}); save the file as UTF-8.") from error


def _parse_toml(file: Path, text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", str(error))
        line = int(at[1]) if at and at[1] else text.count("\n") + 1
        said = str(error)[: at.start()] if at else str(error)
        raise ConfigError(
            f'{file}, line {line}: not TOML: {said}. A setting is written: key = value, text in "quotes".'
        ) from error
    except RecursionError as error:
        raise ConfigError(f"{file}: nested too deeply; settings stand at most one table deep.") from error


def _parse_json(file: Path, text: str) -> dict[str, object]:
    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        table = dict(pairs)
        if len(table) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError(f'{file}: "{twice}" is set twice in one table; leave one.')
        return table

    try:
        content = json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{file}, line {error.lineno}: not JSON: {error.msg} (column {error.colno}).") from error
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"{file}: not a configuration: nested too deeply, or a number of too many digits.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file}, line 1: the file must be one JSON object of tables and settings.")
    return content
