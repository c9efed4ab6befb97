"""The models of a platform as its supervisor keeps them: their workers, and what to look at before these are started."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cordee.adapters.model_sources import ModelError
from cordee.adapters.models import resolve
from cordee.compose.serving import Served, as_served, served
from cordee.compose.sizing import worker_need
from cordee.config.load import cache_dir
from cordee.config.tree import Config
from cordee.kernels.memory import bytes_left
from cordee.supervisor.shelf import Footprint, Plan, UnfitError
from cordee.supervisor.watched import Spec

UNKNOWN_ROOM = 1 << 60  # bytes: where the system does not say, nobody is refused for want of memory


def plans(
    config: Config, specs: Sequence[Spec], first: str, files: Mapping[str, Path | None], environ: Mapping[str, str]
) -> tuple[Plan, ...]:
    """The first model, which is there from the start, and every `[[serve]]`. `files`: what workers of a model load, where that is known.
    Raises ModelError."""
    cache = cache_dir(environ)

    def workers(name: str) -> tuple[Spec, ...]:
        return tuple(spec for spec in specs if spec.role == "worker" and spec.model == name)

    own = workers(first)
    return (
        Plan(first, "pinned", 0.0, own, footprint=_footprint(config, files[first], len(own))),
        *(
            Plan(one.name, one.entry.load, one.entry.idle_s, theirs, _look(config, one, len(theirs), files, cache))
            for one in served(config)
            for theirs in (workers(one.name),)
        ),
    )


def room() -> int:
    """Bytes that the host has left for models."""
    left = bytes_left()
    return UNKNOWN_ROOM if left is None else left


def _look(
    config: Config, one: Served, workers: int, files: Mapping[str, Path | None], cache: Path
) -> Callable[[], Footprint]:
    def look() -> Footprint:
        if one.is_guest:
            return Footprint(0, 0)  # its memory is that of its GPUs, which it looks after itself
        try:
            path = resolve(one.entry.model, cache).path
            return _footprint(as_served(config, one.entry), files.get(one.name) or path, workers)
        except ModelError as error:
            raise UnfitError(str(error)) from error

    return look


def _footprint(config: Config, path: Path | None, workers: int) -> Footprint:
    """Each worker is taken to have the weights for itself: whether they share them is up to the kernels."""
    need = worker_need(config, path)
    return Footprint(need.total * workers, need.weights)
