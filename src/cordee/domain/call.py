"""A call: one request for one answer, with its priority and its deadlines."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import field
from enum import IntEnum

from cordee.domain.record import record


class Priority(IntEnum):
    """Lower is served first."""

    INTERACTIVE = 0
    STANDARD = 1
    BATCH = 2


class Sensitivity(IntEnum):
    """How little a call should leave the installation: the lowest goes out first when the house is full."""

    PUBLIC = 0
    INTERNAL = 1
    CONFIDENTIAL = 2


@record
class Deadlines:
    """How long a call may take, in seconds from its arrival (total, first token) or from its last token (between)."""

    total_s: float = 600.0
    first_token_s: float = 120.0
    between_tokens_s: float = 60.0


@record
class Sampling:
    """How the next token is chosen. The noise is a function of (seed, position): no generator state exists anywhere.

    Order of application: penalties and bias on the logits, temperature, min_p, top_k, top_p, then one draw.
    `temperature == 0` is greedy. `logprobs`: None for none, else how many alternatives to report beside the chosen one.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int = 0
    logprobs: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False


@record
class Work:
    """What a worker needs to answer: the prompt as token ids and how to go on from there.

    `n` choices are answered from the same prompt; choice i samples with seed `sampling.seed + i`.
    """

    prompt: array[int]
    max_tokens: int
    n: int = 1
    sampling: Sampling = Sampling()

    @property
    def cost(self) -> int:
        """Tokens of cache this call may occupy: what a seat is counted in."""
        return self.n * (len(self.prompt) + self.max_tokens)


@record
class Call:
    """One request for one answer. `work` is set when our own workers answer it, `body` (the request as it came) when another
    server may.

    `keep`: the answer outlives its gateway: workers keep what they send, and nobody stops them when a connection breaks.
    `attach`: the replica that is asked first because it may still have the answer of this very call, "" for none.
    `local_only`: it never leaves this installation; otherwise `sensitivity` says who leaves first when some must.
    `affinity`: equal for calls whose prompts begin alike, 0 where that is unknown. `region`: where the caller is.
    `tells_queue`: a stream whose client wants to hear of its place while it waits.
    """

    id: str
    model: str
    tenant: str
    path: str
    stream: bool
    arrived_s: float
    priority: Priority = Priority.STANDARD
    deadlines: Deadlines = Deadlines()
    work: Work | None = None
    body: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = field(default=())
    key_id: str = ""
    keep: bool = False
    attach: str = ""
    local_only: bool = False
    sensitivity: Sensitivity = Sensitivity.INTERNAL
    affinity: int = 0
    region: str = ""
    tells_queue: bool = False

    @property
    def cost(self) -> int:
        """Tokens this call may occupy; a forwarded body is estimated at four bytes a token."""
        return self.work.cost if self.work is not None else 1 + len(self.body) // BYTES_PER_TOKEN

    @property
    def sequences(self) -> int:
        """Slots this call occupies on a replica."""
        return self.work.n if self.work is not None else 1


BYTES_PER_TOKEN = 4  # English text in common vocabularies; only used before anything was tokenised
