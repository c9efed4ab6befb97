"""What a gateway process needs of the models that its workers serve."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

from cordee.adapters.models import resolve
from cordee.adapters.vocabulary import open_vocabulary
from cordee.compose.serving import as_served, served
from cordee.compose.sizing import check_template, context_settings, trained_context, whole_header
from cordee.compose.tasks import tasks_in
from cordee.compose.templates import Templates
from cordee.config.load import cache_dir
from cordee.config.tree import Config
from cordee.domain.call import Task
from cordee.gateway.openings import Opened, Opener
from cordee.gateway.prepare import Model
from cordee.kernels.library import KernelsError


def open_model(config: Config, templates: Templates) -> Model:
    """Of the first model. Raises ModelError, ValueError, OSError."""
    found = resolve(config.model, cache_dir(os.environ))
    vocabulary = open_vocabulary(str(found.path) if found.path is not None else "oracle", config.engine.library)
    tasks = tasks_in(whole_header(found.path)) if found.path is not None else (Task.GENERATE.value,)
    return Model(
        found.name, vocabulary, templates.of(found.name, vocabulary), constrains=found.path is not None, tasks=tasks
    )


def openers(config: Config, templates: Templates) -> dict[str, Opener]:
    """Of every `[[serve]]` whose workers speak tokens: read when it is needed. Raises ModelError for a model that is none."""
    return {
        one.name: Opener(_opener(as_served(config, one.entry), one.name, templates), not one.is_on_demand)
        for one in served(config)
        if not one.is_guest
    }


def _opener(config: Config, name: str, templates: Templates) -> Callable[[], Opened]:
    def open_() -> Opened:
        found = resolve(config.model, cache_dir(os.environ))
        if found.path is None:
            vocabulary, context = open_vocabulary("oracle", ""), config.oracle.context
            tasks: tuple[str, ...] = (Task.GENERATE.value,)
        else:
            header = whole_header(found.path)
            check_template(found.path, header)
            context, tasks = context_settings(config, trained_context(header)).context, tasks_in(header)
            try:
                vocabulary = open_vocabulary(str(found.path), config.engine.library)
            except KernelsError as error:
                raise ValueError(str(error)) from error
        model = Model(name, vocabulary, templates.of(name, vocabulary), constrains=found.path is not None, tasks=tasks)
        opened = Opened(model, context)
        give_back_memory()
        return opened

    return open_


def give_back_memory() -> None:
    """What reading a vocabulary has left over goes back to the system, where the C library can do that (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
