"""Which engine answers for a model, and what it calls itself: the card that gateways compare."""

from __future__ import annotations

import logging
import os
from array import array
from pathlib import Path

import msgspec

from cordee.adapters.libraries import library_directory
from cordee.adapters.model_sources import ModelError
from cordee.adapters.models import ModelFile, resolve
from cordee.config.load import cache_dir
from cordee.config.tree import Config
from cordee.domain.replica import ModelCard
from cordee.engine.fingerprint import file_sha256, fingerprint
from cordee.engine.job import Engine
from cordee.engine.runner_llama import LlamaEngine
from cordee.engine.runner_oracle import Faults, OracleEngine, Pace
from cordee.kernels.context import Context, ContextSettings
from cordee.kernels.gguf import GGUFError, read_header
from cordee.kernels.library import load
from cordee.kernels.llama import Model
from cordee.policy import oracle
from cordee.policy.batch import Limits
from cordee.ports import Clock

log = logging.getLogger(__name__)


def open_engine(config: Config, clock: Clock) -> Engine:
    """The engine for `config.model`, loaded but not started. Raises ModelError, KernelsError, ValueError or OSError."""
    cache = cache_dir(os.environ)
    found = resolve(config.model, cache)
    if found.path is None:
        return open_oracle(config, clock)
    return open_llama(config, found, found.path, library_directory(config.engine.library, cache))


def open_oracle(config: Config, clock: Clock) -> OracleEngine:
    """The oracle. Its delays are no part of the fingerprint: a slow oracle says the same."""
    settings = config.oracle
    parts = {"model": "oracle", "vocabulary": oracle.VOCABULARY, "context": settings.context}
    card = ModelCard("oracle", fingerprint(parts), settings.context, oracle.VOCABULARY, exact=True)
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
    context = min(engine.context, model.trained_context or engine.context)
    if context < engine.context:
        log.warning(
            "engine.context is %d, %s was trained for %d: that is what counts", engine.context, found.name, context
        )
    limits = Limits(engine.slots, max(engine.batch, engine.slots), engine.prefill_tokens_max)
    threads = engine.threads or len(os.sched_getaffinity(0))
    settings = ContextSettings(
        engine.slots, context, limits.batch_tokens, min(engine.ubatch, limits.batch_tokens), threads, engine.exact
    )
    parts = {
        "weights": sha256,
        "library": library.build,
        "processor": library.variant,
        "exact": engine.exact,
        "ubatch": settings.ubatch,
        "context": context,
    }
    card = ModelCard(found.name, fingerprint(parts), context, model.size, engine.exact)
    log.info("%s: %d slots × %d tokens on %d threads, %s", found.name, engine.slots, context, threads, library.variant)
    log.debug("settings: %s", msgspec.json.encode(engine).decode())
    return LlamaEngine(Context(model, settings), card, limits)


def check(found: ModelFile, path: Path) -> str:
    """The file's SHA-256. Raises ModelError if it is not what it should be, before llama.cpp sees it."""
    try:
        read_header(path)
    except GGUFError as error:
        raise ModelError(f"{path} is not a whole GGUF file: {error}") from error
    sha256 = file_sha256(path)
    if found.sha256 is not None and sha256 != found.sha256:
        raise ModelError(
            f"{path}: its SHA-256 is {sha256}, must be {found.sha256}; fetch it again with `cordee models pull {found.name}`"
        )
    return sha256
