"""One thing that can answer for a model, what it can do, and how loaded it says it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

from cordee.domain.record import record


class ReplicaKind(Enum):
    """How a replica is reached, and with it how a broken answer can go on."""

    LINK = "link"  # our own worker: continuation by token ids
    HTTP = "http"  # any OpenAI-compatible server: as far as it can continue
    CLOUD = "cloud"  # the same outside this installation, for money


class Continuation(IntEnum):
    """How an answer that broke off can go on at a replica; more is better."""

    RESTART = 0  # from the beginning only: nothing may have left for the client
    TEXT = 1  # from the text that left: its tokens may be cut otherwise than they were
    TOKENS = 2  # from the very tokens that left
    EXACT = 3  # the same, and bitwise what would have come without the break


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a replica says about its model. Only replicas of equal fingerprint may continue each other's answers.

    `fingerprint` covers weights, tokenizer, template, kernels, instruction set and the settings that change logits.
    `context` is the longest prompt plus answer of one sequence, in tokens. `tasks` are values of domain.call.Task that it can do,
    `adapters` names of LoRA adapters that are loaded. `preempts`: a full replica lets calls of a lower class make room for those of a
    higher one.
    """

    name: str
    fingerprint: str
    context: int
    vocabulary: int
    exact: bool
    tasks: tuple[str, ...] = ("generate",)
    adapters: tuple[str, ...] = ()
    preempts: bool = False


UNKNOWN = 255  # of a percentage: the byte that stands for it on the link


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much fits: sequences that run at once, and tokens of cache over all of them."""

    sequences: int
    tokens: int


@record
class Load:
    """A replica's own report. `seen` counts the calls it has had from the reader: what was sent since is not in it yet.

    `cpu`, `memory` and `gpu` are what its host uses, in percent, smoothed by the worker; UNKNOWN where that is not known.
    `steps` counts the steps of its engine, modulo 2³²: with work to do and no step, the engine is dead whatever the process says.
    """

    running: int = 0
    waiting: int = 0
    tokens: int = 0
    seen: int = 0
    cpu: int = UNKNOWN
    memory: int = UNKNOWN
    gpu: int = UNKNOWN
    steps: int = 0


@record
class Signals:
    """What a host uses, in percent: `cpu` of all its processors, `memory` of all it has, `gpu` of its busiest one."""

    cpu: int = UNKNOWN
    memory: int = UNKNOWN
    gpu: int = UNKNOWN


@dataclass(frozen=True, slots=True)
class Gpu:
    """An accelerator that a replica uses: its `number` on the host and its name, then how it is, None where it does not say.
    `busy` is the share of time in which it computed, in percent."""

    number: int
    name: str
    busy: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_c: float | None = None
    power_w: float | None = None


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """What an engine has counted since its process began. Of `prompt_tokens` that were asked for `cached_tokens` were found computed.
    `kept`, `saved` and `recomputed`: sequences that made room for others, by what became of what was computed of them; `parked` wait
    to go on. `aborted`: steps that took too long. `outside_share`: of the time of its steps, what the kernels did not have."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    kept: int = 0
    saved: int = 0
    recomputed: int = 0
    parked: int = 0
    aborted: int = 0
    outside_share: float = 0.0
