"""A model file written anew with fewer bits: what has to hold before it is begun, and what was made is checked before it has its name."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cordee.adapters.durable import PART_SUFFIX, settle
from cordee.adapters.libraries import library_directory
from cordee.adapters.model_sources import ModelError
from cordee.adapters.models import resolve
from cordee.compose.kernel_child import Progress, Task, run
from cordee.compose.sizing import whole_header
from cordee.compose.tasks import WRITES, tasks_in
from cordee.kernels.gguf import Header
from cordee.kernels.perplexity import Perplexity, growth, perplexity
from cordee.kernels.quantize import KINDS, Kind, quantised_tensors

MIB = 1 << 20
SPARE_BYTES = 64 * MIB  # of the disk, beyond the file: nobody else shall run out because of it


@dataclass(frozen=True, slots=True)
class Size:
    """What a file would become: bytes of all weights, and bits for each of them."""

    kind: Kind
    bytes: int
    bits: float


@dataclass(frozen=True, slots=True)
class Compared:
    """The measure of the source and of what was made of it, and by what share it grew."""

    source: Perplexity
    target: Perplexity
    growth: Perplexity
    tokens: int


@dataclass(frozen=True, slots=True)
class Source:
    """A sound model file. `quantised`: how many of its tensors have lost precision before."""

    path: Path
    header: Header
    quantised: int
    library: Path


def open_source(name: str, library: str, cache: Path) -> Source:
    """`name`: of the catalogue, a path, or hf:. `library`: the setting engine.library. Raises ModelError, KernelsError."""
    path = resolve(name, cache).path
    if path is None:
        raise ModelError(f"{name} has no file that could be quantised; name a GGUF model")
    header = whole_header(path)
    if header.metadata.get("general.type", "model") != "model" or not header.tensors:
        raise ModelError(f"{path} is no model (general.type is {header.metadata.get('general.type')!r}); name one")
    return Source(path, header, quantised_tensors(header), library_directory(library, cache))


def sizes(source: Source) -> list[Size]:
    """Of every type there is. Raises KernelsError."""
    rows = run(Task("sizes", str(source.library), str(source.path)), lambda done, of: None)
    by_number = {int(ftype): (mib, bits) for ftype, mib, bits in rows}
    return [Size(kind, int(by_number[kind.ftype][0] * MIB), by_number[kind.ftype][1]) for kind in KINDS]


def require_target(source: Source, target: Path, size: Size, *, force: bool, requantize: bool) -> None:
    """Raises ModelError for what must not be begun."""
    if source.quantised and not requantize:
        raise ModelError(
            f"{source.path}: {source.quantised} of its {len(source.header.tensors)} tensors are quantised already; what is lost is lost "
            "twice; start from a 16- or 32-bit file, or say --allow-requantize"
        )
    if target.is_dir():
        raise ModelError(f"{target} is a directory; name the file that is to be written")
    if target.exists():
        if target.samefile(source.path):
            raise ModelError(f"{target} is the source itself; name another file")
        if not force:
            raise ModelError(f"{target} is there already; name another file, or say --force to replace it")
    if not target.parent.is_dir():
        raise ModelError(f"{target.parent} is no directory; make it first")
    free = free_bytes(target.parent)
    if free < size.bytes + SPARE_BYTES:
        raise ModelError(
            f"{target}: about {size.bytes // MIB} MiB will be written, {free // MIB} MiB are free (and {SPARE_BYTES // MIB} MiB shall "
            "stay so); make room, or name a file on another disk"
        )


def free_bytes(directory: Path) -> int:
    """That this user may still write there. Raises OSError."""
    return shutil.disk_usage(directory).free


def quantise(source: Source, target: Path, kind: Kind, progress: Progress) -> None:
    """All of `target` or nothing. Raises ModelError, KernelsError, OSError."""
    part = target.with_name(target.name + PART_SUFFIX)
    part.unlink(missing_ok=True)
    try:
        run(Task("quantize", str(source.library), str(source.path), str(part), kind.ftype, requantize=True), progress)
        made = whole_header(part)
        if {tensor.name: tensor.shape for tensor in made.tensors} != {
            one.name: one.shape for one in source.header.tensors
        }:
            raise ModelError(f"{part} has other tensors than {source.path}: it was not kept")
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        settle(part, target)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def compare(source: Source, target: Path, progress: Progress) -> Compared | None:
    """None: a model that writes nothing cannot be surprised. Raises KernelsError."""
    if tasks_in(source.header) != WRITES:
        return None

    def of(path: Path, number: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        rows = run(
            Task("surprises", str(source.library), str(path)),
            lambda done, total: progress(number * total + done, 2 * total),
        )
        return np.array(rows[0])

    before, after = of(source.path, 0), of(target, 1)
    return Compared(perplexity(before), perplexity(after), growth(before, after), len(before))
