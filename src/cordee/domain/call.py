"""A call: one request for one answer, with its priority and its deadlines."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import field
from enum import Enum, IntEnum

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


class Task(Enum):
    """What is to be computed of a prompt."""

    GENERATE = "generate"  # tokens that follow it
    EMBED = "embed"  # one vector for each item
    RANK = "rank"  # one number for each item, which is two texts: how well they go together
    SCORE = "score"  # for each item the log-probabilities of the tokens from `Item.start` on


class Syntax(Enum):
    """How a constraint is written down."""

    JSON_OBJECT = "json_object"  # any JSON object; the text is empty
    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    LARK = "lark"  # a context-free grammar in the notation of the Lark library


JSON_SPACE = r"[\x20\x0A\x0D\x09]{1,64}"
"""What may stand between the parts of JSON that is asked for, as a regular expression: bounded, because small models fill their
answer with blanks where it is not."""


@record
class Grammar:
    """What the text of an answer must be a word of."""

    syntax: Syntax
    text: str


@record
class Item:
    """One of several texts of a task. `start`: the first token that is to be scored; unused where nothing is scored."""

    tokens: array[int]
    start: int = 0


@record
class Work:
    """What a worker needs to answer: the prompt as token ids and how to go on from there.

    `n` choices are answered from the same prompt; choice i samples with seed `sampling.seed + i`.
    A task other than generation has no prompt but `items`, and choice i is what was computed for item i: `n` is their number.
    `adapter` is the name of the LoRA adapter that is laid over the model, "" for none. `cache_salt`: what has been computed of a prompt
    is only shared between calls of equal salt.
    """

    prompt: array[int]
    max_tokens: int
    n: int = 1
    sampling: Sampling = Sampling()
    adapter: str = ""
    grammar: Grammar | None = None
    cache_salt: str = ""
    task: Task = Task.GENERATE
    items: tuple[Item, ...] = ()

    @property
    def tokens_in(self) -> int:
        """Tokens that are read, in all items together."""
        return len(self.prompt) + (sum(len(item.tokens) for item in self.items) if self.items else 0)

    @property
    def cost(self) -> int:
        """Tokens of cache this call may occupy: what a seat is counted in."""
        if self.items:
            return sum(len(item.tokens) for item in self.items)
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
