"""The models of an installation beside the first one: what clients call them, how their workers are called, and the configuration as
the workers of one of them see it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from cordee.adapters.models import ORACLE, named
from cordee.config.sections.models import Serve
from cordee.config.tree import Config

SLUG_CHARS_MAX = 20  # of a socket's path, which the kernel keeps short; see supervisor.addresses.SOCKET_NAME_MAX
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Served:
    """One `[[serve]]`. `name`: what clients call the model; `slug`: the same, short and plain, in the names of its workers."""

    name: str
    slug: str
    entry: Serve

    @property
    def is_guest(self) -> bool:
        """A server of another make runs it."""
        return self.entry.kind != "llama"

    @property
    def is_on_demand(self) -> bool:
        return self.entry.load == "demand"


def served(config: Config) -> tuple[Served, ...]:
    """In the order of the configuration. Raises ModelError for what is the name of no model."""
    found: list[Served] = []
    for entry in config.serve:
        name = entry.name or (named(entry.model) if entry.kind == "llama" else guest_name(entry.model))
        found.append(Served(name, _slug(name, [one.slug for one in found]), entry))
    return tuple(found)


def guest_name(model: str) -> str:
    """What clients call a guest's model where nothing is said: the last part of its path or of its name at a hub."""
    return model.rstrip("/").rpartition("/")[2] or model


def servers_of(config: Config, entry: Serve) -> int:
    """How many servers have it: the first ones."""
    return min(entry.servers or config.servers, config.servers)


def worker_name(server: int, number: int, slug: str = "") -> str:
    """Of worker `number`, from 1, of a model on a server. `slug` "": of the first model."""
    return f"worker-{server}" + (f".{slug}" if slug else "") + (f"-{number}" if number > 1 else "")


def as_served(config: Config, entry: Serve) -> Config:
    """The configuration as a worker of this model sees it: what the entry leaves open is as for the first model."""
    given = {name: value for name in ("slots", "context") if (value := getattr(entry, name))}
    if entry.model == ORACLE:
        return replace(config, model=entry.model, oracle=replace(config.oracle, **given))
    given |= {name: value for name in ("threads", "batch", "ubatch", "weights") if (value := getattr(entry, name))}
    return replace(config, model=entry.model, engine=replace(config.engine, **given))


def served_as(config: Config, name: str) -> Served:
    """Raises ValueError where there is none of this name."""
    for one in served(config):
        if one.name == name:
            return one
    raise ValueError(f"there is no [[serve]] of the name {name!r} in the configuration")


def _slug(name: str, taken: Sequence[str]) -> str:
    plain = _NOT_PLAIN.sub("-", name).strip("-") or "model"
    slug, number = plain[:SLUG_CHARS_MAX], 1
    while slug in taken:
        number += 1
        slug = f"{plain[: SLUG_CHARS_MAX - len(str(number)) - 1]}_{number}"
    return slug
