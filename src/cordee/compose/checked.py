"""What can be known before the first process starts: that the addresses are free, that the model and what runs it are there."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cordee.adapters import envoy_binary, kernels_fetch, models, valkey
from cordee.adapters.model_sources import ModelError
from cordee.compose import guests
from cordee.compose.api_key import key_of
from cordee.compose.lora import check_adapters
from cordee.compose.serving import as_served, served
from cordee.compose.templates import check_templates
from cordee.compose.weights import WeightsError, file_to_load
from cordee.config.load import cache_dir
from cordee.config.sections.entrances import Entry
from cordee.config.tree import Config
from cordee.kernels import library
from cordee.supervisor.addresses import Resolved, check_free, resolve

USAGE = 2  # exit status: something that was asked for cannot be
FAILED = 1


class CannotStartError(Exception):
    """The platform cannot start; the message says why and what to do. `code`: the exit status."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found to be usable. `files`: what workers of each model load, None for one without a file; models of guests, and those
    whose file is damaged, are not among them."""

    model: str
    model_name: str
    files: Mapping[str, Path | None]
    envoy: Path | None
    valkey: Path | None
    web: Resolved | None
    mobile: Resolved | None


def look_first(config: Config, environ: Mapping[str, str]) -> Checked:
    """Raises CannotStartError, AddressError, ModelError, EnvoyMissingError, StoreMissingError."""
    if not config.web.gateways_per_server + config.mobile.gateways_per_server:
        raise CannotStartError(
            "web.gateways_per_server and mobile.gateways_per_server are both 0: nobody could be served; set one of them to "
            "1 or more",
            USAGE,
        )
    _keys(config, environ)
    web = _public(config.web, "--web", needed=config.edge.enabled)
    mobile = _public(config.mobile, "--mobile", needed=config.edge.enabled)
    cache = cache_dir(environ)
    model = models.verify(config.model, cache)
    if model.path is not None and not _kernels(config, cache):
        raise _no_kernels()
    _further(config, cache, model.name)
    check_adapters(config, cache)
    try:
        check_templates(config)
    except (ValueError, OSError) as error:
        raise CannotStartError(str(error), USAGE) from error
    try:
        guests.look(config, environ)
    except guests.GuestError as error:
        raise CannotStartError(str(error), USAGE) from error
    by_path = model.path is not None and Path(config.model).expanduser().absolute() == model.path
    return Checked(
        model=str(model.path) if by_path else config.model,
        model_name=model.name,
        files=_files(config, model, cache),
        envoy=envoy_binary.binary(config.edge.binary) if config.edge.enabled else None,
        valkey=valkey.binary() if config.store.enabled and not config.store.url else None,
        web=web,
        mobile=mobile,
    )


def _further(config: Config, cache: Path, first: str) -> None:
    """Models of which there is nothing, or whose names cannot be told apart, are mistakes of the configuration. One whose file is damaged
    is not: the others are served, and it is said of that one (supervisor.shelf)."""
    names = {first}
    for one in served(config):
        if one.name in names:
            raise CannotStartError(
                f"two models are called {one.name!r}: give the [[serve]] of model {one.entry.model!r} another name",
                USAGE,
            )
        names.add(one.name)
        if one.is_guest:
            continue  # its server finds the model
        found = models.resolve(one.entry.model, cache)
        if found.path is not None and not _kernels(config, cache):
            raise _no_kernels()


def _files(config: Config, first: models.ModelFile, cache: Path) -> dict[str, Path | None]:
    """The files that workers load, written anew where engine.weights wants it: workers may not write, and calls would wait for it."""
    files = {first.name: file_to_load(config, first, cache, _say)}
    for one in served(config):
        if one.is_guest:
            continue
        try:
            files[one.name] = file_to_load(
                as_served(config, one.entry), models.resolve(one.entry.model, cache), cache, _say
            )
        except WeightsError:
            raise
        except ModelError:
            continue  # its file is damaged: the others are served
    return files


def _say(line: str) -> None:
    print(f"cordee: {line}", file=sys.stderr, flush=True)


def _no_kernels() -> CannotStartError:
    return CannotStartError(
        "llama.cpp's library is not on this machine: fetch it with `cordee models pull`, set engine.library to a "
        "directory that holds it, or try the platform without a model: --model oracle",
        FAILED,
    )


def _keys(config: Config, environ: Mapping[str, str]) -> None:
    """Every gateway would end for want of one."""
    try:
        for peer in config.replica:
            key_of(peer.key_env, peer.key_file, f"replica {peer.url}", environ)
        for cloud in config.cloud:
            key_of(cloud.key_env, cloud.key_file, f"cloud {cloud.name}", environ)
    except ValueError as error:
        raise CannotStartError(str(error), USAGE) from error


def _public(entry: Entry, option: str, *, needed: bool) -> Resolved | None:
    if not needed and not entry.gateways_per_server:
        return None
    address = resolve(entry.address, option)
    check_free(address, option)
    return address


def _kernels(config: Config, cache: Path) -> bool:
    if config.engine.library:
        return library.has_library(Path(config.engine.library).expanduser())
    return kernels_fetch.locate(cache) is not None or library.installed_directory() is not None
