"""Where libllama is and how it is brought into the process, with the processor variant that fits.

A directory is accepted if it holds libllama and the ggml libraries in any of the layouts in use: one file per processor
variant, chosen at run time (the prebuilt package), or one ggml-cpu library (llama-cpp-python and own builds).
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cordee.kernels.layout import LOG_LEVELS_KEPT, LayoutError, LogCallback, declare

LOG_LINES_KEPT = 8  # of llama.cpp's warnings and errors: what an error message may quote
MAPS = Path("/proc/self/maps")  # names the variant that ggml chose; there is no function that does


class KernelsError(Exception):
    """llama.cpp could not be loaded, or could not do what was asked. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Library:
    """llama.cpp in this process. `build` is a hash of the files in use, `variant` the processor variant in use."""

    directory: Path
    calls: Any
    context_params: type[ctypes.Structure]
    build: str
    variant: str
    log: deque[str]
    log_callback: object  # kept alive: llama.cpp calls it as long as the process lives

    def complaints(self) -> str:
        """The last warnings and errors of llama.cpp, in one line, emptied by reading."""
        text = "; ".join(self.log)
        self.log.clear()
        return text or "no reason was given"


def installed_directory() -> Path | None:
    """The library directory of llama-cpp-python, if that is installed. It is not imported."""
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or not spec.submodule_search_locations:
        return None
    directory = Path(next(iter(spec.submodule_search_locations))) / "lib"
    return directory if has_library(directory) else None


def has_library(directory: Path) -> bool:
    return first(directory, "libllama.so", "libllama.v*.so", "libllama.so.*") is not None


def load(directory: Path) -> Library:
    """Bring the libraries of `directory` into the process. Raises KernelsError."""
    llama = first(directory, "libllama.so", "libllama.v*.so", "libllama.so.*")
    if llama is None:
        raise KernelsError(
            f"no libllama in {directory}: set engine.library to a directory that holds libllama.so and its ggml libraries"
        )
    try:
        ggml = open_ggml(directory)
        calls = ctypes.CDLL(str(llama), mode=ctypes.RTLD_GLOBAL)
        context_params = declare(calls)
    except (OSError, LayoutError) as error:
        raise KernelsError(
            f"{llama} cannot be used: {error}. Known to work: llama.cpp 0.5 and 0.6 with glibc 2.34 or newer; "
            "set engine.library to such a build"
        ) from error
    log: deque[str] = deque(maxlen=LOG_LINES_KEPT)

    def keep(level: int, text: bytes | None, _: object) -> None:
        if level in LOG_LEVELS_KEPT and text:
            log.append(text.decode(errors="replace").strip())

    callback = LogCallback(keep)
    calls.llama_log_set(callback, None)
    open_backends(ggml, directory)
    calls.llama_backend_init()
    loaded = loaded_files(directory)
    if not any("cpu" in path.name for path in loaded):
        raise KernelsError(
            f"no processor backend (libggml-cpu*.so) could be loaded from {directory}: "
            + ("; ".join(log) or "none is there")
        )
    variant = ",".join(path.name for path in loaded if "ggml-cpu" in path.name)
    system: bytes = calls.llama_print_system_info()
    return Library(
        directory,
        calls,
        context_params,
        build_of(loaded),
        f"{variant} {system.decode(errors='replace')}",
        log,
        callback,
    )


def open_ggml(directory: Path) -> Any:
    """libggml, after what it needs: its runpath may not name its own directory."""
    for patterns in (("libgomp.so.1",), ("libggml-base.so", "libggml-base.v*.so", "libggml-base.so.*")):
        needed = first(directory, *patterns)
        if needed is not None:
            ctypes.CDLL(str(needed), mode=ctypes.RTLD_GLOBAL)
    ggml = first(directory, "libggml.so", "libggml.v*.so", "libggml.so.*")
    if ggml is None:
        raise OSError(f"no libggml in {directory}")
    try:
        return ctypes.CDLL(str(ggml), mode=ctypes.RTLD_GLOBAL)
    except OSError:
        processor = first(directory, "libggml-cpu.so", "libggml-cpu.so.*")
        if processor is None:
            raise
        ctypes.CDLL(str(processor), mode=ctypes.RTLD_GLOBAL)
        return ctypes.CDLL(str(ggml), mode=ctypes.RTLD_GLOBAL)


def open_backends(ggml: Any, directory: Path) -> None:
    """Load the processor variant that fits best, where backends are files of their own."""
    ggml.ggml_backend_reg_count.restype = ctypes.c_size_t
    ggml.ggml_backend_load_all_from_path.argtypes = (ctypes.c_char_p,)
    ggml.ggml_backend_load_all_from_path.restype = None
    if ggml.ggml_backend_reg_count() == 0:
        ggml.ggml_backend_load_all_from_path(str(directory).encode())


def loaded_files(directory: Path) -> list[Path]:
    """The libraries of `directory` that are mapped into this process, by name."""
    home = str(directory.resolve())
    paths = {line.split(maxsplit=5)[5].strip() for line in MAPS.read_text().splitlines() if home in line}
    return sorted(Path(path) for path in paths)


def build_of(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def first(directory: Path, *patterns: str) -> Path | None:
    for pattern in patterns:
        found = sorted(directory.glob(pattern))
        if found:
            return found[0]
    return None
