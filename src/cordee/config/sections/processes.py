"""The processes of an installation: workers and their engines, the links to them, and who restarts what died."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from cordee.config.sections.base import Count, Positive, Section


class Worker(Section, frozen=True):
    """How many workers there are of the first model, and what all workers may do. See docs/models.md."""

    per_server: Count = 1
    confined: bool = True  # without the right to start programs, to write files, to connect anywhere


class Engine(Section, frozen=True):
    """One model in one process. See docs/engine.md for what each setting costs."""

    slots: Annotated[int, Meta(ge=1, le=256)] = 16  # sequences that run at once
    context: Annotated[int, Meta(ge=64, le=1_048_576)] = 2048  # tokens of prompt and answer, per slot
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0  # 0: as many as the process has processors
    ubatch: Annotated[int, Meta(ge=16, le=4096)] = 128  # rows the kernels work on at once
    batch: Annotated[int, Meta(ge=32, le=16384)] = 2048  # prompt tokens per step while nobody decodes
    prefill_tokens_max: Annotated[int, Meta(ge=16, le=16384)] = 256  # prompt tokens per step while others decode
    prefill_tokens_min: Annotated[int, Meta(ge=1, le=16384)] = 16  # of a long prompt at once: fewer take nearly as long
    stretch_max: Annotated[float, Meta(ge=0, le=1000)] = (
        1.75  # times a step without prompts: how long steps take on the mean, or as long as when all decode; 0: no bound
    )
    prefill_s_max: Annotated[float, Meta(ge=0, le=3600)] = 0.25  # of one step at most, for prompt tokens; 0: no bound
    step_s_max: Annotated[float, Meta(ge=0.1, le=3600)] = 30.0  # a step that takes longer is stopped and undone
    ageing_s: Positive = 20.0  # of waiting, then a call moves up one class
    spare: Annotated[int, Meta(ge=0, le=256)] = 2  # further slots, for what was computed of calls that do not run
    parkings_max: Annotated[int, Meta(ge=0, le=100)] = 8  # how often a call makes room for others; 0: never
    parked_bytes_max: Annotated[int, Meta(ge=0)] = 256 * 1024 * 1024  # saved of those that have made room
    prefix_cache: bool = True  # what was computed of a prompt is used for others that begin alike
    prefix_isolation: Literal["none", "tenant"] = "none"  # tenant: only for others of the same tenant
    waiting_max: Annotated[int, Meta(ge=0, le=100_000)] = 256  # sequences a worker holds beyond its slots
    exact: bool = True  # an answer that goes on elsewhere is the same, token for token
    exact_vectors: bool = True  # a text has the same vector in any company; without it short texts take a quarter less
    weights: Literal["auto", "file", "q8_0"] = (
        "auto"  # file: as they are; q8_0: written anew once where the kernels are slow with the file's; auto: so for small models
    )
    library: str = ""  # directory of libllama; "" takes the fetched one, else llama-cpp-python's


class Oracle(Section, frozen=True):
    """The engine whose token i is a function of (seed, i): for tests and rehearsals, and to try the platform without a model."""

    slots: Annotated[int, Meta(ge=1, le=100_000)] = 4096  # sequences that run at once
    context: Annotated[int, Meta(ge=64, le=1_048_576)] = 65_536
    first_token_s: Annotated[float, Meta(ge=0, le=3600)] = 0.01  # how long it takes for the first token
    token_s: Annotated[float, Meta(ge=0, le=3600)] = 0.01  # and for each one after it
    wrong_from: Annotated[
        int, Meta(ge=-1)
    ] = -1  # rehearsals: the answer from whose number on it lies, 0 the first; -1: never
    stuck_from: Annotated[int, Meta(ge=-1)] = -1  # rehearsals: the answer with whose number its engine stops; -1: never
    poison: Annotated[str, Meta(max_length=256)] = (
        ""  # rehearsals: a prompt that holds this text ends the process; "": none
    )


class Link(Section, frozen=True):
    """The connection between a gateway and a worker."""

    transport: Literal["unix", "tls"] = (
        "unix"  # tls: with certificates of the own authority, for workers on other hosts
    )
    beat_s: Positive = 0.025  # between two signs of life while there is work
    idle_beat_s: Positive = 1.0  # and while there is none
    suspect_s_min: Positive = 0.075  # of silence, before a worker is suspected at all
    phi: Annotated[float, Meta(ge=1, le=32)] = 8.0  # how improbable its silence must be: one in ten to this power


class Supervisor(Section, frozen=True):
    """Restarting what died."""

    backoff_s: Positive = 0.1  # before the first restart; twice as long before each next one
    backoff_s_max: Positive = 10.0
    deaths_max: Count = 8  # within `window_s`; then the process is given up, loudly
    window_s: Positive = 60.0  # in which deaths are counted
    silent_s: Annotated[float, Meta(ge=0, le=86_400)] = (
        30.0  # a gateway or worker that was ready and says nothing for so long is killed and started again; 0: never
    )
    stop_s: Positive = 35.0  # from SIGTERM to SIGKILL
