"""Changes numbers in a configuration file and nothing else: comments, order and spaces stay as somebody wrote them.

This is no TOML writer. The text is changed line by line and then understood anew by the real parser: if it does not say exactly what
it said before and the new numbers, it is not used.
"""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cordee.config.file import ConfigError
from cordee.config.lines import line_in_toml


def with_numbers(path: Path, text: str, section: str, numbers: Mapping[str, int]) -> str:
    """The text with these settings of the table `section`. Raises ConfigError where it is written in a way that cannot be followed."""
    if path.suffix == ".json":
        raise ConfigError(f"{path}: only TOML files are changed in place; write the settings into it by hand.")
    wanted: dict[str, Any] = copy.deepcopy(tomllib.loads(text))
    wanted.setdefault(section, {}).update(numbers)
    lines = text.splitlines()
    missing = [name for name, value in numbers.items() if not _replace(lines, text, f"{section}.{name}", value)]
    _add(lines, section, {name: numbers[name] for name in missing})
    changed = "\n".join(lines) + "\n"
    try:
        same = tomllib.loads(changed) == wanted
    except tomllib.TOMLDecodeError:
        same = False
    if not same:
        raise ConfigError(
            f"{path}: [{section}] is written in a way that cannot be changed safely; write the settings into it by hand."
        )
    return changed


def _replace(lines: list[str], text: str, key: str, value: int) -> bool:
    """False: there is no line of its own for this key."""
    number = line_in_toml(text, key)
    if number is None:
        return False
    name = re.escape(key.rpartition(".")[2])
    found = re.match(rf"(\s*(?:[\w\"'-]+\s*\.\s*)*[\"']?{name}[\"']?\s*=\s*)[+\d][\d_xob]*(.*)$", lines[number - 1])
    if found is None:
        return False
    lines[number - 1] = f"{found[1]}{value}{found[2]}"
    return True


def _add(lines: list[str], section: str, numbers: Mapping[str, int]) -> None:
    """Below the table's header, which is made at the end where there is none."""
    if not numbers:
        return
    written = [f"{name} = {value}" for name, value in numbers.items()]
    header = re.compile(rf"\s*\[\s*{re.escape(section)}\s*\]")
    at = next((number for number, line in enumerate(lines, start=1) if header.match(line)), 0)
    if not at:
        lines += [*([""] if lines else []), f"[{section}]"]
        at = len(lines)
    lines[at:at] = written
