"""The LoRA adapters of an installation: which belong to which model, and that each is whole and fits before anything is started."""

from __future__ import annotations

from pathlib import Path

from cordee.adapters.model_sources import ModelError
from cordee.adapters.models import resolve
from cordee.compose.serving import served
from cordee.compose.sizing import whole_header
from cordee.compose.tasks import WRITES, tasks_in
from cordee.config.sections.models import Adapter
from cordee.config.tree import Config
from cordee.engine.fingerprint import file_sha256
from cordee.kernels.gguf import GGUFError, Header
from cordee.kernels.lora import Lora, fitting_header


def adapter_names(config: Config) -> dict[str, tuple[str, ...]]:
    """By the model that they are laid over, as clients call it."""
    bases = dict.fromkeys(adapter.base for adapter in config.adapters.values())
    return {base: tuple(_of(config, base)) for base in bases}


def loras(config: Config, base: str, header: Header) -> tuple[Lora, ...]:
    """Those of the model `base` whose file has this header, found to fit it. Raises ModelError."""
    return tuple(_lora(name, adapter, header) for name, adapter in _of(config, base).items())


def check_adapters(config: Config, cache: Path) -> None:
    """Raises ModelError for one that is not whole, or for another base, and for a base that there is not. Where the base's own file
    is at fault, others say so."""
    if not config.adapters:
        return
    first = resolve(config.model, cache)
    bases: dict[str, Path | None] = {first.name: first.path}
    for one in served(config):
        bases[one.name] = None if one.is_guest else resolve(one.entry.model, cache).path
    for name, adapter in config.adapters.items():
        if adapter.base not in bases:
            raise ModelError(
                f"adapters.{name}.base is {adapter.base!r}, which is no model of this configuration; there are: {', '.join(bases)}"
            )
        path = bases[adapter.base]
        if path is None:
            raise ModelError(
                f"adapters.{name}.base is {adapter.base!r}, which the built-in engine does not run: leave it out"
            )
        try:
            header = whole_header(path)
        except ModelError:
            continue
        if tasks_in(header) != WRITES:
            raise ModelError(
                f"adapters.{name}.base is {adapter.base!r}, which writes nothing: such models take no adapters"
            )
        _fitting(name, adapter, header)


def _of(config: Config, base: str) -> dict[str, Adapter]:
    return {name: adapter for name, adapter in config.adapters.items() if adapter.base == base}


def _lora(name: str, adapter: Adapter, base: Header) -> Lora:
    path = _fitting(name, adapter, base)
    return Lora(name, path, adapter.scale, file_sha256(path))


def _fitting(name: str, adapter: Adapter, base: Header) -> Path:
    path = Path(adapter.path).expanduser().absolute()
    try:
        fitting_header(path, base)
    except GGUFError as error:
        why = str(error).rstrip(".")
        raise ModelError(
            f"adapters.{name}: {path} cannot be laid over {adapter.base!r}: {why}. Name a GGUF adapter made for it."
        ) from error
    except OSError as error:
        raise ModelError(
            f"adapters.{name}: {path} cannot be read: {error.strerror}; set adapters.{name}.path."
        ) from error
    return path
