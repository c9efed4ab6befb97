"""Which engine answers for a model, and what it calls itself: the card that gateways compare."""

from __future__ import annotations

import logging
import os
from array import array
from dataclasses import replace
from pathlib import Path

import msgspec

from cordee.adapters.libraries import library_directory
from cordee.adapters.model_sources import ModelError
from cordee.adapters.models import ORACLE, ModelFile, resolve
from cordee.compose.embedding import open_embedding
from cordee.compose.lora import loras
from cordee.compose.sizing import check_template, context_settings, require_room, scheduling, whole_header
from cordee.compose.tasks import tasks_in
from cordee.config.load import cache_dir
from cordee.config.tree import Config
from cordee.domain.call import Task
from cordee.domain.replica import ModelCard
from cordee.engine import exactness
from cordee.engine.fingerprint import file_sha256, fingerprint
from cordee.engine.job import Engine
from cordee.engine.loop import Runner, StepFailed
from cordee.engine.runner_llama import LlamaEngine, LlamaRunner
from cordee.engine.runner_oracle import Faults, OracleEngine, Pace
from cordee.kernels import grammar
from cordee.kernels.adapters import Adapters
from cordee.kernels.context import Context
from cordee.kernels.library import KernelsError, load
from cordee.kernels.llama import Model
from cordee.kernels.memory import bytes_needed, cache_bytes_per_token
from cordee.kernels.settings import ContextSettings
from cordee.policy import oracle
from cordee.ports import Clock

log = logging.getLogger(__name__)

SMALL_BYTES = (
    512 << 20
)  # of weights: up to here one thread is quick, and does not spin beside others that start just now


def open_engine(config: Config, clock: Clock, name: str = "") -> Engine:
    """The engine for `config.model`, loaded and run once but not started. `name`: what clients call the model; "": its own name.
    Raises ModelError, KernelsError, ValueError or OSError."""
    cache = cache_dir(os.environ)
    found = resolve(config.model, cache)
    if name:
        found = replace(found, name=name)
    if found.path is None:
        return open_oracle(config, clock, found.name)
    library = library_directory(config.engine.library, cache)
    if Task.GENERATE.value not in tasks_in(whole_header(found.path)):
        return open_embedding(config, found, found.path, library, check(found, found.path))
    return open_llama(config, found, found.path, library)


def open_oracle(config: Config, clock: Clock, name: str = ORACLE) -> OracleEngine:
    """The oracle. Its delays are no part of the fingerprint: a slow oracle says the same."""
    settings = config.oracle
    parts = {"model": "oracle", "vocabulary": oracle.VOCABULARY, "context": settings.context}
    card = ModelCard(name, fingerprint(parts), settings.context, oracle.VOCABULARY, exact=True)
    poison = (
        array("I", list(settings.poison.encode())).tobytes() if settings.poison else b""
    )  # a token per byte: adapters.vocabulary
    faults = Faults(settings.wrong_from, settings.stuck_from, poison)
    return OracleEngine(card, settings.slots, Pace(settings.first_token_s, settings.token_s), clock, faults)


def open_llama(config: Config, found: ModelFile, path: Path, library_directory: Path) -> LlamaEngine:
    """A GGUF file on llama.cpp, read only after its header and, where pinned, its hash are found right."""
    engine = config.engine
    sha256 = check(found, path)
    library = load(library_directory)
    model = Model(library, path)
    settings = context_settings(config, model.trained_context)
    context = settings.context
    if context < engine.context:
        log.warning(
            "engine.context is %d, %s was trained for %d: that is what counts", engine.context, found.name, context
        )
    header = whole_header(path)
    adapters = loras(config, found.name, header)
    need = bytes_needed(header, settings)
    require_room(path, replace(need, weights=need.weights + sum(one.path.stat().st_size for one in adapters)))
    limits = scheduling(engine, settings, cache_bytes_per_token(header))
    parts = {
        "weights": sha256,
        "library": library.build,
        "processor": library.variant,
        "exact": engine.exact,
        "ubatch": settings.ubatch,
        "context": context,
        "grammars": grammar.VERSION,
    }
    if adapters:
        parts["adapters"] = [(one.name, one.sha256, one.scale) for one in adapters]
    tasks = (Task.GENERATE.value, Task.SCORE.value)
    card = ModelCard(
        found.name, fingerprint(parts), context, model.size, engine.exact, tasks, tuple(one.name for one in adapters),
        preempts=engine.parkings_max > 0,
    )  # fmt: skip
    log.info(
        "%s: %d slots × %d tokens on %d threads, %s",
        found.name,
        engine.slots,
        context,
        settings.threads,
        library.variant,
    )
    log.debug("settings: %s", msgspec.json.encode(engine).decode())
    opened = Context(model, settings)
    opened.run_once()
    if engine.exact:
        opened.set_threads(settings.threads if need.weights > SMALL_BYTES else 1)
        card = replace(card, exact=holds(LlamaRunner(opened), found.name, model.size, settings))
        opened.set_threads(settings.threads)
    return LlamaEngine(
        opened, card, limits, isolates=engine.prefix_isolation == "tenant", step_s_max=engine.step_s_max,
        adapters=Adapters(model, adapters) if adapters else None,
    )  # fmt: skip


def holds(runner: Runner, name: str, vocabulary: int, settings: ContextSettings) -> bool:
    """Whether answers of this model are the same in any company, as measured; says so where they are not. Raises KernelsError."""
    try:
        deviation = exactness.deviation(runner, vocabulary, settings.slots, settings.batch)
    except StepFailed as error:
        raise KernelsError(f"{name} cannot be run: {error}") from error
    if deviation:
        log.warning(
            "%s is not exact here, though engine.exact is set: %s its logits are others than alone, so an answer that goes on at another "
            "worker may go on otherwise. Weights of the types Q8_0, Q4_0 and Q4_1 were seen to hold: cordee models quantize",
            name, deviation,
        )  # fmt: skip
    return not deviation


def check(found: ModelFile, path: Path) -> str:
    """The file's SHA-256. Raises ModelError if it is not what it should be, before llama.cpp sees it."""
    check_template(path, whole_header(path))
    sha256 = file_sha256(path)
    if found.sha256 is not None and sha256 != found.sha256:
        raise ModelError(
            f"{path}: its SHA-256 is {sha256}, must be {found.sha256}; fetch it again with `cordee models pull {found.name}`"
        )
    return sha256
