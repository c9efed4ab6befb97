"""Which file a worker loads where the setting engine.weights wants another encoding than that of the model's own file, and making it.

Made once, before any worker has given up the right to write files, by a process of its own; kept beside the models, under the hashes of
what it was made from and of the library that made it. It is a cache: whoever deletes it, or damages it, makes the next start slower.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from cordee.adapters import durable
from cordee.adapters.libraries import library_directory
from cordee.adapters.model_sources import ModelError
from cordee.adapters.models import ModelFile, resolve
from cordee.compose.quantizing import MIB, SPARE_BYTES, Source, free_bytes, quantise
from cordee.compose.sizing import whole_header
from cordee.config.tree import Config
from cordee.engine.fingerprint import file_sha256
from cordee.kernels.encoding import bytes_anew, reason_to_stay
from cordee.kernels.gguf import Header
from cordee.kernels.library import KernelsError, build_of, first
from cordee.kernels.quantize import kind_named, quantised_tensors

AS_IN_THE_FILE, AS_IS_BEST = "file", "auto"
BEST = "q8_0"  # where kernels are slow with the file's type
BEST_BYTES_MAX = (
    512 << 20
)  # written anew unasked: the weights of larger models take longer to read than to compute with
FAST_FLAGS = frozenset({"amx_int8"})  # of processors that have fast kernels for all types
CPUINFO = Path("/proc/cpuinfo")
BUILD_DIGITS = 16  # of a hash, in a name: two builds on one machine do not meet in them
DIRECTORY_MODE, RECORD_MODE = 0o755, 0o644  # models are no secret
CURE = 'or use the file as it is: engine.weights = "file"'

Say = Callable[[str], None]


class WeightsError(ModelError):
    """A model's weights cannot be written anew on this machine; the file itself may be well."""


def as_loaded(config: Config, name: str, cache: Path, say: Say) -> tuple[Config, str]:
    """What an engine is opened with: `config` and the model's `name` ("" for its own), or the same with the file that is loaded in its
    place. Raises ModelError."""
    if config.engine.weights == AS_IN_THE_FILE:
        return config, name
    found = resolve(config.model, cache)
    path = file_to_load(config, found, cache, say)
    if path == found.path:
        return config, name
    return replace(config, model=str(path)), name or found.name


def file_to_load(config: Config, found: ModelFile, cache: Path, say: Say) -> Path | None:
    """The file that a worker of the model `found` loads, made if it is not there yet; None: it has no file. `say` gets a line where it
    takes long or where nothing is gained. Raises WeightsError, and ModelError for a model's file that is not sound."""
    wanted, source = config.engine.weights, found.path
    if wanted == AS_IN_THE_FILE or source is None:
        return source
    if wanted == AS_IS_BEST:
        return _best(config, found, source, cache, say)
    header = whole_header(source)
    if why := reason_to_stay(header):
        say(f'{found.name}: engine.weights = "{wanted}" changes nothing: {why}; the file is used as it is')
        return source
    return _written(config, found, source, header, wanted, cache, say)


def _best(config: Config, found: ModelFile, source: Path, cache: Path, say: Say) -> Path:
    """What a small model is fastest with here. Nobody asked for another file, so nothing that is wrong with one holds anybody up."""
    if has_fast_kernels():
        return source
    try:
        header = whole_header(source)
        if reason_to_stay(header) or bytes_anew(header) > BEST_BYTES_MAX:
            return source
        return _written(config, found, source, header, BEST, cache, say)
    except WeightsError as error:
        say(f"{error}. The file is used as it is, which is slower")
    except ModelError:
        pass  # whoever loads it says what is wrong with it
    return source


def has_fast_kernels() -> bool:
    """Whether this processor multiplies by weights of any type in blocks."""
    try:
        flags = next((line for line in CPUINFO.read_text().splitlines() if line.startswith("flags")), "")
    except OSError:
        return True  # who knows: nothing is written unasked
    return not FAST_FLAGS.isdisjoint(flags.split())


def _written(
    config: Config, found: ModelFile, source: Path, header: Header, wanted: str, cache: Path, say: Say
) -> Path:
    """The model's file with its weights of another type. Raises WeightsError, and ModelError for a file that is not sound."""
    try:
        library = library_directory(config.engine.library, cache)
        sha256 = found.sha256 or file_sha256(source)
        target = place(cache, sha256, wanted, library)
        if not is_whole(target):
            _make(Source(source, header, quantised_tensors(header), library), sha256, wanted, target, found.name, say)
    except KernelsError as error:
        raise WeightsError(f"{found.name}: its weights cannot be written anew as {wanted}: {error}; {CURE}") from error
    except OSError as error:
        raise WeightsError(
            f"{error.filename or source}: {error.strerror or error}, while the weights of {found.name} were written anew as {wanted}: "
            f"make {cache} writable for this user, let CORDEE_CACHE name another directory, {CURE}"
        ) from error
    return target


def place(cache: Path, sha256: str, wanted: str, library: Path) -> Path:
    """Where the file made from the one with this hash is kept. Of the library count the files that write weights, not those that compute
    with them: processors of two kinds share the file. Raises OSError."""
    writers = (
        first(library, "libllama.so", "libllama.v*.so", "libllama.so.*"),
        first(library, "libggml-base.so", "libggml-base.v*.so", "libggml-base.so.*"),
    )
    build = build_of(path for path in writers if path is not None)
    return cache / "models" / "encoded" / f"{sha256}-{wanted}-{build[:BUILD_DIGITS]}.gguf"


def is_whole(target: Path) -> bool:
    """It is there, and is what was written. Raises OSError."""
    try:
        return _record(target).read_text("ascii", "replace").strip() == file_sha256(target)
    except FileNotFoundError:
        return False


def _make(source: Source, sha256: str, wanted: str, target: Path, name: str, say: Say) -> None:
    """Raises ModelError, KernelsError, OSError."""
    kind = kind_named(wanted)
    assert kind is not None, wanted  # the configuration knows no others
    home = durable.directory(target.parent, DIRECTORY_MODE)
    with durable.locked(home / ".lock"):
        if is_whole(target):
            return  # made by another process while this one waited for the lock
        if file_sha256(source.path) != sha256:
            raise ModelError(
                f"{source.path}: its SHA-256 is not {sha256}; get a whole copy of it, with `cordee models pull` where it came from there"
            )
        _require_room(source, target, kind.name)
        say(f"{name}: its weights are written anew as {kind.name}, once ({source.path.stat().st_size // MIB} MiB) …")
        began = time.monotonic()
        quantise(source, target, kind, lambda done, of: None)
        durable.replace(_record(target), f"{file_sha256(target)}\n".encode(), RECORD_MODE)
        _forget_others(target, sha256, wanted)
        took_s = time.monotonic() - began
        say(f"{name}: written in {took_s:.1f} s: {target} ({target.stat().st_size // MIB} MiB)")


def _require_room(source: Source, target: Path, kind: str) -> None:
    needed, free = bytes_anew(source.header), free_bytes(target.parent)
    if free < needed + SPARE_BYTES:
        raise WeightsError(
            f"{target.parent}: {source.path} as {kind} takes {needed // MIB} MiB, {free // MIB} MiB are free (and {SPARE_BYTES // MIB} MiB "
            f"shall stay so): make room, let CORDEE_CACHE name a directory on another disk, {CURE}"
        )


def _forget_others(target: Path, sha256: str, wanted: str) -> None:
    """What earlier builds of the library have made of the same file, so that one remains for each model. Who has it open keeps it."""
    for old in target.parent.glob(f"{sha256}-{wanted}-*.gguf"):
        if old != target:
            _record(old).unlink(missing_ok=True)
            old.unlink(missing_ok=True)


def _record(target: Path) -> Path:
    return target.with_name(target.name + ".sha256")
