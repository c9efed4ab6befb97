"""What a gateway process needs of the model that its workers serve."""

from __future__ import annotations

import ctypes
import os

from cordee.adapters.models import resolve
from cordee.adapters.vocabulary import open_vocabulary
from cordee.config.load import cache_dir
from cordee.config.tree import Config
from cordee.gateway.prepare import Model
from cordee.wire.template import Template


def open_model(config: Config) -> Model:
    """What this gateway needs of the model that its workers serve. Raises ModelError, ValueError, OSError."""
    found = resolve(config.model, cache_dir(os.environ))
    vocabulary = open_vocabulary(str(found.path) if found.path is not None else "oracle", config.engine.library)
    return Model(found.name, vocabulary, Template(vocabulary))


def give_back_memory() -> None:
    """What reading a vocabulary has left over goes back to the system, where the C library can do that (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
