"""What is known of guests before one starts: their programs, the GPUs that each of their processes gets, and what cannot be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cordee.adapters import gpus
from cordee.adapters.guests.commands import PROGRAMS
from cordee.adapters.guests.options import refused
from cordee.compose.serving import Served, served, servers_of, worker_name
from cordee.config.sections.models import Serve
from cordee.config.tree import Config


class GuestError(Exception):
    """A guest cannot be started; the message says why, and what to change."""


def program_of(entry: Serve, environ: Mapping[str, str]) -> str:
    """The program's absolute path. Raises ValueError."""
    wanted = os.path.expanduser(entry.command or PROGRAMS[entry.kind])
    found = shutil.which(wanted, path=environ.get("PATH", os.defpath))
    if found is None:
        cure = (
            "set command of this [[serve]] to the path of its program"
            if not entry.command
            else "set command to a program that is there"
        )
        raise ValueError(f"{wanted!r} is no program that can be started (kind {entry.kind!r}): install it, or {cure}")
    return str(Path(found).absolute())


def gpus_needed(entry: Serve) -> int:
    """By one process."""
    return entry.tensor_parallel * entry.data_parallel


def workers_of(config: Config, one: Served) -> list[str]:
    """The names of its processes, in the order in which GPUs are dealt out."""
    servers = range(1, servers_of(config, one.entry) + 1)
    return [
        worker_name(server, number, one.slug) for number in range(1, one.entry.per_server + 1) for server in servers
    ]


def gpus_of(config: Config, one: Served, worker: str) -> tuple[int, ...]:
    """Those of one process; none: nothing was said about them."""
    needed = gpus_needed(one.entry)
    at = workers_of(config, one).index(worker) * needed if one.entry.gpus else 0
    return one.entry.gpus[at : at + needed]


def look(config: Config, environ: Mapping[str, str], present: Callable[[], int] = gpus.present) -> None:
    """Whether all guests of the configuration can be started on this host. Raises GuestError. `present`: how many GPUs it has."""
    guests = [one for one in served(config) if one.is_guest]
    if not guests:
        return
    there = present()
    taken: dict[int, str] = {}
    for one in guests:
        try:
            program_of(one.entry, environ)
        except ValueError as error:
            raise GuestError(f"[[serve]] {one.name!r}: {error}") from error
        for wrong in refused(one.entry.kind, one.entry.arguments):
            raise GuestError(f"[[serve]] {one.name!r}: arguments: {wrong}")
        _check_gpus(config, one, there, taken)


def _check_gpus(config: Config, one: Served, there: int, taken: dict[int, str]) -> None:
    entry, processes = one.entry, len(workers_of(config, one))
    needed = gpus_needed(entry) * processes
    said = f"[[serve]] {one.name!r}"
    if not entry.gpus:
        if there and needed > 1 and processes > 1:
            raise GuestError(
                f"{said} has {processes} processes and does not say which GPUs each gets: set gpus to {needed} of the {there} of this "
                f"host, or servers and per_server to 1"
            )
        if there and needed > there:
            raise GuestError(
                f"{said}: tensor_parallel = {entry.tensor_parallel} and data_parallel = {entry.data_parallel} need {needed} GPUs, this "
                f"host has {there}: lower them"
            )
        return
    missing = [number for number in entry.gpus if number >= there]
    if missing:
        has = f"has {there}, numbered from 0" if there else "has none that its driver shows"
        raise GuestError(f"{said}: gpus names {_list(missing)}, but this host {has}: name others, or leave gpus out")
    if len(entry.gpus) < needed:
        raise GuestError(
            f"{said}: {processes} of its processes, each with tensor_parallel = {entry.tensor_parallel} and data_parallel = "
            f"{entry.data_parallel}, need {needed} GPUs together, gpus names {len(entry.gpus)}: name more, or lower servers, "
            "per_server or the parallelism"
        )
    for number in entry.gpus[:needed]:
        if number in taken:
            raise GuestError(
                f"GPU {number} is given to [[serve]] {taken[number]!r} and to {one.name!r}: give it to one of them"
            )
        taken[number] = one.name


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
