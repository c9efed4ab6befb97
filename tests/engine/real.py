"""The default model on the fetched library, or a skip that says what is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cordee.adapters.libraries import library_directory
from cordee.adapters.model_sources import ModelError
from cordee.adapters.models import DEFAULT, resolve
from cordee.config.load import cache_dir
from cordee.kernels.library import KernelsError, Library, load


def real_library() -> Library:
    try:
        return load(library_directory("", cache_dir(os.environ)))
    except KernelsError as error:
        pytest.skip(str(error))


def real_model() -> Path:
    try:
        path = resolve(DEFAULT, cache_dir(os.environ)).path
    except ModelError as error:
        pytest.skip(str(error))
    assert path is not None
    return path
