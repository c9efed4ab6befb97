"""A model of llama.cpp that turns texts into vectors, or two texts into one number where it compares.

*Lanes.* Every processor has contexts of its own, with one thread each, and computes other texts than the others: a pass over a text
is so short that threads which share one spend their time waiting for each other, most of all beside a busy neighbour.

*Exact.* Every text has a pass of its own, because the sums of attention are made in another order when other texts stand in the
batch, and a vector would then depend on the company it came in. How the pass looks depends on the length of the text alone: which
attention is used, because below `FLASH_ROWS` rows llama.cpp's flash attention works row by row and takes up to twice the time, and
how many rows of a second text are there to no end but a round number (`rows_of`). Otherwise as many texts as fit share a pass:
short ones take a quarter less time together, and their vectors are equal to about three digits.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cordee.kernels.layout import FLASH_ATTENTION_OFF, FLASH_ATTENTION_ON, Batch
from cordee.kernels.library import KernelsError
from cordee.kernels.llama import Model

FLASH_ROWS = 64  # from here on flash attention is tiled, and the quicker one
TILED_FROM = 49  # tokens; `bench.embedding_rows` measures both: 64 rows tiled take 18.7 ms, 49 without it 19.5, 63 26.4
ROUND_ROWS = 16  # ordinary attention multiplies by rows in blocks of so many, number by number where one is not full
SPARE_SHARE = 10  # one row in so many may be there for a round number alone: 46 take 18.2 ms, 48 16.6, but 33 take 12.5
SEQUENCES = 64  # of a pass that texts share; llama.cpp wants the rows of a pass to be a multiple of it
TEXTS = SEQUENCES - 1  # in one pass: the last sequence is nobody's
TOKENS_MAX = 256  # of a portion: under 0.1 s on an ordinary processor, which is how long a newcomer waits at most
PASSES = 2  # how passes are made up: another number whenever a text's vector becomes another, so that workers tell each other apart
POOLING_MEAN, POOLING_RANK = 1, 4  # 0 is none at all
UNSPECIFIED = -1  # as the model says
ADDRESS_BYTES, SEQ_ID_BYTES = 8, 4

Vector = NDArray[np.float32]
Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """`context`: the longest text, in tokens. `rows`: of a pass that several texts share. `lanes`: processors to use."""

    context: int
    rows: int
    lanes: int
    exact: bool


@dataclass(frozen=True, slots=True)
class _Form:
    """How the contexts of a model are made: for so many texts in a pass, and one more that rows for a round number belong to.
    `has_cache`: its texts would wait for room in it, and have a pass of their own, of as many rows as it has tokens."""

    rows: int
    texts: int
    pooling: int
    width: int
    has_cache: bool

    @property
    def nobody(self) -> int:
        """The text that nobody asks for."""
        return self.texts


class Embedding:
    """A model and what is needed to run it. Each of its `lanes` is used by one thread."""

    def __init__(self, model: Model, settings: EmbeddingSettings) -> None:
        """Raises KernelsError."""
        self.model = model
        self.settings = settings
        form = _form(model, settings)
        self.is_rank = form.pooling == POOLING_RANK
        self.width = form.width
        self.lanes = settings.lanes
        self.texts_max = TEXTS
        self.tokens_max = max(TOKENS_MAX, 0 if form.texts == 1 else settings.rows)
        self._pass_texts = form.texts
        self._lanes = [_Lane(model, form) for _ in range(settings.lanes)]

    def compute(self, lane: int, texts: Sequence[Ids]) -> list[Vector]:
        """The vectors of texts that have up to `context` tokens each, not normalised; of a model that compares, one number each.
        Raises KernelsError. Releases the GIL."""
        found: dict[int, Vector] = {}
        for numbers in self._passes(texts):
            found.update(zip(numbers, self._lanes[lane].run([texts[at] for at in numbers]), strict=True))
        return [found[number] for number in range(len(texts))]

    def run_once(self) -> None:
        """One short text and one long one: what is only made or mapped at the first pass is there then. Raises KernelsError."""
        for lane in self._lanes:
            for length in (1, min(FLASH_ROWS, self.settings.context)):
                if not np.isfinite(lane.run([np.zeros(length, np.int32)])[0]).all():
                    raise KernelsError(
                        "the model's vectors are not finite numbers: its file is damaged, or of a kind that llama.cpp cannot run"
                    )

    def close(self) -> None:
        """Free the contexts, before their model. Idempotent."""
        for lane in self._lanes:
            lane.close()

    def _passes(self, texts: Sequence[Ids]) -> Iterator[tuple[int, ...]]:
        """Which texts share a pass, by their numbers; texts of about one length stand together."""
        order = sorted(range(len(texts)), key=lambda at: -len(texts[at]))
        passes: list[tuple[int, ...]] = []
        rows = self.settings.rows
        for at in order:
            room = rows - sum(len(texts[other]) for other in passes[-1]) if passes else 0
            if passes and len(passes[-1]) < self._pass_texts and len(texts[at]) <= room:
                passes[-1] += (at,)
            else:
                passes.append((at,))
        return iter(passes)


def rows_of(length: int) -> int:
    """How many rows a text of so many tokens has in a pass of its own: some more where that takes less time. By its length alone, so
    that its vector is always the same."""
    if TILED_FROM <= length < FLASH_ROWS:
        return FLASH_ROWS
    if length <= ROUND_ROWS or length > FLASH_ROWS:
        return length  # so few rows cost as much as the numbers of one block
    rows = -(-length // ROUND_ROWS) * ROUND_ROWS
    return rows if (rows - length) * SPARE_SHARE <= length else length


class _Lane:
    """The contexts of one processor, and the one batch whose arrays are filled in place."""

    def __init__(self, model: Model, form: _Form) -> None:
        self._model = model
        self._form = form
        rows = form.rows
        sequences = form.texts if form.has_cache else form.nobody + 1
        self._long: Any = _open(model, rows, sequences, FLASH_ATTENTION_ON, form.pooling)
        self._short: Any = _open(model, FLASH_ROWS, sequences, FLASH_ATTENTION_OFF, form.pooling)
        self._tokens, self._positions, self._texts = (np.zeros(rows, np.int32) for _ in range(3))
        self._floats: Any = ctypes.c_float * form.width
        self._ones = np.ones(rows, np.int32)
        self._wanted = np.ones(rows, np.int8)
        starts = self._texts.ctypes.data + SEQ_ID_BYTES * np.arange(rows, dtype=np.uint64)
        self._text_pointers: NDArray[np.uint64] = starts.astype(np.uint64)
        assert self._text_pointers.itemsize == ADDRESS_BYTES
        self._batch = Batch(
            0, self._tokens.ctypes.data, None, self._positions.ctypes.data, self._ones.ctypes.data,
            self._text_pointers.ctypes.data, self._wanted.ctypes.data,
        )  # fmt: skip

    def run(self, texts: Sequence[Ids]) -> list[Vector]:
        """One pass."""
        rows = 0
        for number, ids in enumerate(texts):
            end = rows + len(ids)
            self._tokens[rows:end] = ids
            self._positions[rows:end] = np.arange(len(ids))
            self._texts[rows:end] = number
            rows = end
        if not self._form.has_cache:
            end = rows_of(rows)
            self._tokens[rows:end] = texts[0][0]  # any token will do: nothing looks at these rows
            self._positions[rows:end] = np.arange(end - rows)
            self._texts[rows:end] = self._form.nobody
            rows = end
        context = self._short if rows < FLASH_ROWS else self._long
        calls = self._model.calls
        self._batch.n_tokens = rows
        code: int = calls.llama_decode(context, self._batch)
        if code:
            raise KernelsError(
                f"llama.cpp could not compute {len(texts)} texts of {rows} tokens (code {code}): {self._model.library.complaints()}"
            )
        vectors = [self._vector(context, number) for number in range(len(texts))]
        if self._form.has_cache:
            calls.llama_memory_clear(calls.llama_get_memory(context), False)
        return vectors

    def close(self) -> None:
        for context in (self._long, self._short):
            if context is not None:
                self._model.calls.llama_free(context)
        self._long = self._short = None

    def _vector(self, context: Any, text: int) -> Vector:
        address = self._model.calls.llama_get_embeddings_seq(context, text)
        if not address:
            raise KernelsError(f"llama.cpp has no vector for text {text}: {self._model.library.complaints()}")
        return np.frombuffer(self._floats.from_address(address), np.float32).copy()


def _form(model: Model, settings: EmbeddingSettings) -> _Form:
    """What only a context tells of its model: how it makes one vector of a text (the mean, where it does not say), and whether it
    has a cache."""
    calls = model.calls
    probe = _open(model, FLASH_ROWS, 1, FLASH_ATTENTION_OFF, UNSPECIFIED)
    pooling = int(calls.llama_pooling_type(probe)) or POOLING_MEAN
    has_cache = bool(calls.llama_get_memory(probe))
    calls.llama_free(probe)
    texts = 1 if settings.exact or has_cache else TEXTS
    rows = settings.context if texts == 1 else max(settings.context, settings.rows)
    width = 1 if pooling == POOLING_RANK else int(calls.llama_model_n_embd(model.pointer))
    return _Form(-(-rows // SEQUENCES) * SEQUENCES, texts, pooling, width, has_cache)


def _open(model: Model, rows: int, texts: int, flash_attention: int, pooling: int) -> Any:
    params: Any = model.calls.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = rows
    params.n_seq_max = texts
    params.n_threads = params.n_threads_batch = 1
    params.embeddings = True
    params.pooling_type = pooling
    params.flash_attn_type = flash_attention
    params.kv_unified = True
    pointer = model.calls.llama_init_from_model(model.pointer, params)
    if not pointer:
        raise KernelsError(f"no context for texts of {rows} tokens: {model.library.complaints()}. Lower engine.context")
    return pointer
