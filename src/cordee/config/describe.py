"""What can be set: every key of the tree as one flat list, with its type, its default and what is allowed in words.

Loading, checking and showing all walk this list, so a setting that is added to the tree is at once readable from the file
and the environment, refused with the right words, and shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, get_type_hints

import msgspec
from msgspec import inspect

from cordee.config.sections.base import ADDRESS_PATTERN, Section
from cordee.config.tree import Config

ENVIRONMENT_PREFIX = "CORDEE_"

_UNITS = (
    ("_per_s", "per second"),
    ("_s_max", "seconds"),
    ("_s_min", "seconds"),
    ("_bytes_max", "bytes"),
    ("_s", "seconds"),
)
_ORIGIN_PATTERN_START = "^https?://"
_ORIGIN_WORDS = "an origin, for example https://app.example or http://localhost:3000"
_ADDRESS_WORDS = "HOST:PORT, for example 127.0.0.1:8000 or [::1]:8000"


@dataclass(frozen=True, slots=True)
class Setting:
    """One leaf of the tree. `key` is dotted (`engine.slots`), `allowed` a phrase that ends "must be …"."""

    key: str
    type: Any
    default: object
    allowed: str

    @property
    def section(self) -> str:
        """The table the key stands in; "" at the top."""
        return self.key.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.key.rpartition(".")[2]

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return ENVIRONMENT_PREFIX + self.key.replace(".", "_").upper()

    @property
    def unit(self) -> str:
        """What one of it is; "" where the name says all."""
        return next((unit for suffix, unit in _UNITS if self.name.endswith(suffix)), "")


@cache
def settings() -> Mapping[str, Setting]:
    """Every setting by its dotted key, in the order of the tree."""
    return MappingProxyType({setting.key: setting for setting in _walk(Config, Config(), "")})


def sections() -> dict[str, str]:
    """The first line of each section's own description, by the section's name; "" is the whole tree."""
    found = {"": _first_line(Config)}

    def walk(kind: type[Section], prefix: str) -> None:
        hints = get_type_hints(kind)
        for field in msgspec.structs.fields(kind):
            if _is_section(hints[field.name]):
                found[prefix + field.name] = _first_line(hints[field.name])
                walk(hints[field.name], f"{prefix}{field.name}.")

    walk(Config, "")
    return found


def values(config: Config) -> dict[str, object]:
    """The leaves of a configuration by dotted key."""
    return dict(_leaves(config, ""))


def _leaves(section: Section, prefix: str) -> Iterator[tuple[str, object]]:
    for name in section.__struct_fields__:
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _walk(kind: type[Section], value: Section, prefix: str) -> Iterator[Setting]:
    hints = get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        current, hint = getattr(value, field.name), hints[field.name]
        if _is_section(hint):
            yield from _walk(hint, current, f"{prefix}{field.name}.")
        else:
            yield Setting(prefix + field.name, hint, current, allowed(hint))


def _is_section(hint: object) -> bool:
    return isinstance(hint, type) and issubclass(hint, Section)


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0]


def allowed(hint: Any) -> str:
    """What a value of this type may be, as a phrase that ends "must be …"."""
    return _allowed(inspect.type_info(hint))


def _allowed(info: inspect.Type) -> str:
    if isinstance(info, inspect.Metadata):
        return _allowed(info.type)
    if isinstance(info, inspect.BoolType):
        return "true or false"
    if isinstance(info, inspect.IntType | inspect.FloatType):
        noun = "a whole number" if isinstance(info, inspect.IntType) else "a number"
        return f"{noun}{_range(info)}"
    if isinstance(info, inspect.LiteralType):
        return "one of " + ", ".join(f'"{value}"' for value in info.values)
    if isinstance(info, inspect.VarTupleType | inspect.ListType):
        return f"a list, each of its entries {_allowed(info.item_type)}"
    if isinstance(info, inspect.DictType):
        return f"a table of names, each standing for {_allowed(info.value_type)}"
    if isinstance(info, inspect.StructType):
        return "a table of " + ", ".join(field.encode_name for field in info.fields)
    if isinstance(info, inspect.UnionType):
        nothing = ", or nothing" if any(isinstance(one, inspect.NoneType) for one in info.types) else ""
        return " or ".join(_allowed(one) for one in info.types if not isinstance(one, inspect.NoneType)) + nothing
    assert isinstance(info, inspect.StrType), f"the tree has a kind of setting that nobody described: {info}"
    if info.pattern and info.pattern.startswith(_ORIGIN_PATTERN_START):
        return _ORIGIN_WORDS
    if info.pattern == ADDRESS_PATTERN:
        return _ADDRESS_WORDS
    if info.pattern:
        return f"text that matches `{info.pattern}`"
    if info.max_length:
        return f"text of {info.min_length or 0} to {info.max_length} characters"
    return "text"


def _range(info: inspect.IntType | inspect.FloatType) -> str:
    low = f" from {info.ge:.15g}" if info.ge is not None else f" above {info.gt:g}" if info.gt is not None else ""
    upto = " to " if info.ge is not None else " and at most "
    high = f"{upto}{_plain(info.le)}" if info.le is not None else ""
    return low + high


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)
