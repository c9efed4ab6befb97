"""How large an engine is made: the context of llama.cpp as the configuration wants it, and what a model's workers come to need.

Loads no kernels, so that whoever starts processes can plan their memory before there are any.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from cordee.adapters.model_sources import ModelError
from cordee.compose.tasks import tasks_in
from cordee.config.sections.processes import Engine as EngineSettings
from cordee.config.tree import Config
from cordee.domain.call import Task
from cordee.kernels.gguf import GGUFError, Header, read_header
from cordee.kernels.memory import Need, bytes_left, bytes_needed
from cordee.kernels.settings import ContextSettings
from cordee.policy.batch import Limits
from cordee.wire.template_check import problem

ORACLE_BYTES = 64 << 20  # interpreter and libraries of a worker without a model; measured 55 MiB


def context_settings(config: Config, trained_context: int) -> ContextSettings:
    """`trained_context`: of the model, in tokens; 0 where it does not say."""
    engine = config.engine
    batch = max(engine.batch, engine.slots)
    return ContextSettings(
        engine.slots,
        min(engine.context, trained_context or engine.context),
        batch,
        min(engine.ubatch, batch),
        engine.threads or len(os.sched_getaffinity(0)),
        engine.exact,
        engine.spare,
    )


def scheduling(engine: EngineSettings, settings: ContextSettings, token_bytes: int) -> Limits:
    """What the planner of an engine goes by. `token_bytes`: of cache, for one token."""
    return Limits(
        slots=settings.slots,
        batch_tokens=settings.batch,
        prefill_tokens_max=engine.prefill_tokens_max,
        spare=settings.spare,
        prefill_tokens_min=engine.prefill_tokens_min,
        stretch_max=engine.stretch_max,
        prefill_s_max=engine.prefill_s_max,
        ageing_s=engine.ageing_s,
        parkings_max=engine.parkings_max,
        parked_bytes_max=engine.parked_bytes_max,
        token_bytes=token_bytes,
        slot_bytes=token_bytes * settings.padded_context,
        keeps_prefixes=engine.prefix_cache,
    )


def trained_context(header: Header) -> int:
    """Tokens a model was trained to read; 0 where its file does not say."""
    value = header.metadata.get(f"{header.metadata.get('general.architecture')}.context_length")
    return value if isinstance(value, int) else 0


def whole_header(path: Path) -> Header:
    """Raises ModelError for a file that is not a whole model."""
    try:
        return read_header(path)
    except GGUFError as error:
        raise ModelError(f"{path} is not a whole GGUF file: {error}") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}; make it readable for this user.") from error


def check_template(path: Path, header: Header) -> None:
    """Raises ModelError for a file whose chat template cannot be used; many have none."""
    source = header.metadata.get("tokenizer.chat_template")
    if isinstance(source, str) and (why := problem(source)):
        raise ModelError(f"{path}: {why}")


def require_room(path: Path, need: Need) -> None:
    """Raises ModelError where this machine, or the control group of this process, has less memory left than `need`."""
    left = bytes_left()
    if left is not None and left < need.total:
        mib = 1 << 20
        raise ModelError(
            f"{path} needs {need.total // mib} MiB ({need.weights // mib} weights, {need.cache // mib} cache, {need.work // mib} to work "
            f"with), {left // mib} MiB are left: lower engine.slots, engine.spare or engine.context, or make room"
        )


def worker_need(config: Config, path: Path | None) -> Need:
    """What one worker of a model comes to use; `path` None: of the oracle. Raises ModelError."""
    if path is None:
        return Need(0, 0, ORACLE_BYTES)
    header = whole_header(path)
    settings = context_settings(config, trained_context(header))
    if Task.GENERATE.value not in tasks_in(header):  # a text at a time on each processor
        settings = replace(settings, slots=settings.threads, spare=0, ubatch=settings.context)
    return bytes_needed(header, settings)
