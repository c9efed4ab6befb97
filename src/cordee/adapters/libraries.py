"""Which of the libraries on this machine answers: the configured one, else the fetched one, else llama-cpp-python's."""

from __future__ import annotations

from pathlib import Path

from cordee.adapters import kernels_fetch
from cordee.kernels.library import KernelsError, installed_directory


def library_directory(setting: str, cache: Path) -> Path:
    """The directory to load llama.cpp from. `setting` is engine.library. Raises KernelsError with the cure."""
    if setting:
        return Path(setting).expanduser().absolute()
    found = kernels_fetch.locate(cache) or installed_directory()
    if found is None:
        raise KernelsError(
            f"no library of llama.cpp is on this machine: {kernels_fetch.home(cache)} is absent or incomplete and "
            "llama-cpp-python is not installed. Fetch it with `make up`, or set engine.library to a directory that "
            "holds libllama.so and its ggml libraries"
        )
    return found
