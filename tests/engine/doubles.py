"""Stand-ins for time, kernels, transports and engines."""

from __future__ import annotations

import asyncio
import heapq
from array import array
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from cordee.domain.call import Sampling
from cordee.domain.replica import Capacity, EngineFigures, ModelCard
from cordee.engine.job import Broken, Deliver, Emission, Job, JobName, Tokens
from cordee.engine.loop import StepFailed
from cordee.engine.sample import Matrix
from cordee.link import frames
from cordee.policy.batch import Chunk

CARD = ModelCard("m", "f", context=64, vocabulary=32, exact=True, tasks=("generate", "score"))
END = 31  # the token of CARD's vocabulary that ends an answer


class ManualTimer:
    def __init__(self) -> None:
        self.alive = True

    def cancel(self) -> None:
        self.alive = False


class ManualClock:
    """Time passes only in `advance`."""

    def __init__(self) -> None:
        self.time = 100.0
        self._count = 0
        self._heap: list[tuple[float, int, ManualTimer, Callable[[], None]]] = []

    def now(self) -> float:
        return self.time

    def call_later(self, delay_s: float, what: Callable[[], None]) -> ManualTimer:
        timer = ManualTimer()
        self._count += 1
        heapq.heappush(self._heap, (self.time + delay_s, self._count, timer, what))
        return timer

    def advance(self, seconds: float) -> None:
        end = self.time + seconds
        while self._heap and self._heap[0][0] <= end:
            at, _, timer, what = heapq.heappop(self._heap)
            self.time = max(self.time, at)
            if timer.alive:
                what()
        self.time = end

    @property
    def armed(self) -> int:
        return sum(timer.alive for _, _, timer, _ in self._heap)


class CountingRunner:
    """Kernels whose next token is (last token + 1) mod 32, and that check that the cache is what they are told."""

    def __init__(self) -> None:
        self.cache: dict[int, list[int]] = {}
        self.poison: set[int] = set()
        self.nan: set[int] = set()
        self.can_copy = self.can_cut = self.can_save = self.can_restore = True
        self.runs: list[int] = []
        self.rows: list[int] = []
        self.adapters: list[str] = []
        self.saved: dict[int, list[int]] = {}
        self.copies = 0
        self.threads = 0

    def run(self, chunks: Sequence[Chunk], tokens: Sequence[Tokens]) -> Matrix:
        self.runs.append(len(chunks))
        self.rows.append(sum(chunk.count for chunk in chunks))
        rows = []
        for chunk, ids in zip(chunks, tokens, strict=True):
            cached = self.cache.setdefault(chunk.slot, [])
            assert len(cached) == chunk.start, "the cache of a slot is not what was planned"
            cached.extend(ids.tolist())
            for token in cached[len(cached) - chunk.wanted :]:
                row = np.zeros(CARD.vocabulary, np.float32)
                row[(token + 1) % CARD.vocabulary] = 5.0
                rows.append(np.full_like(row, np.nan) if set(cached) & self.nan else row)
        if any(set(self.cache[chunk.slot]) & self.poison for chunk in chunks):
            raise StepFailed("poison")
        return np.array(rows, np.float32).reshape(len(rows), CARD.vocabulary)

    def use(self, adapter: str) -> None:
        self.adapters.append(adapter)
        if adapter.startswith("no"):
            raise StepFailed(f"{adapter} is not loaded")

    def copy(self, source: int, target: int, tokens: int) -> bool:
        assert tokens <= len(self.cache[source]), "only what was computed can be copied"
        self.cache[target] = self.cache[source][:tokens] if self.can_copy else []
        self.copies += self.can_copy
        return self.can_copy

    def cut(self, slot: int, tokens: int) -> None:
        if tokens and not self.can_cut:
            raise StepFailed("this kind of model cannot")
        assert tokens <= len(self.cache.get(slot, [])), "only what was computed can be kept"
        self.cache[slot] = self.cache.get(slot, [])[:tokens]

    def save(self, slot: int, key: int) -> int:
        if not self.can_save:
            return 0
        self.saved[key] = list(self.cache[slot])
        return 4 * len(self.saved[key])

    def restore(self, key: int, slot: int) -> int:
        saved = self.saved.pop(key)
        self.cache[slot] = saved if self.can_restore else []
        return 4 * len(saved) if self.can_restore else 0

    def drop(self, key: int) -> None:
        self.saved.pop(key, None)

    def set_threads(self, threads: int) -> None:
        self.threads = threads


class RecordingEngine:
    """An engine that does nothing."""

    def __init__(self, slots: int = 2) -> None:
        self.card = CARD
        self.capacity = Capacity(slots, slots * CARD.context)
        self.jobs: list[Job] = []
        self.cancelled: list[JobName] = []
        self.steps = 0
        self.counted = EngineFigures()

    def start(self, deliver: Deliver, broken: Broken) -> None: ...

    def figures(self) -> EngineFigures:
        return self.counted

    def submit(self, job: Job) -> None:
        self.jobs.append(job)

    def cancel(self, name: JobName) -> None:
        self.cancelled.append(name)

    def stop(self) -> None: ...


class RecordingTransport:
    """What was written, as frames."""

    def __init__(self) -> None:
        self.splitter = frames.Splitter()
        self.frames: list[tuple[int, bytes]] = []
        self.aborted = False
        self.closed = False
        self.unread = 0

    def get_write_buffer_size(self) -> int:
        return self.unread

    def write(self, data: bytes) -> None:
        assert not self.aborted
        self.frames += [(kind, bytes(payload)) for kind, payload in self.splitter.feed(data)]

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.closed = True

    def take(self) -> list[tuple[int, bytes]]:
        taken, self.frames = self.frames, []
        return taken


def as_transport(transport: RecordingTransport) -> asyncio.Transport:
    return cast(asyncio.Transport, transport)


def tokens(*ids: int) -> Tokens:
    return np.array(ids, np.int32)


def job(
    handle: int = 1,
    prompt: Sequence[int] = (1, 2, 3),
    outputs: Sequence[Sequence[int]] = ((),),
    choices: Sequence[int] = (0,),
    max_tokens: int = 4,
    deadline_s: float = 1e9,
    priority: int = 1,
    connection: int = 7,
    **sampling: Any,
) -> Job:
    sampling = {"temperature": 0.0, **sampling}
    return Job(
        (connection, handle),
        tokens(*prompt),
        tuple(choices),
        tuple(tokens(*o) for o in outputs),
        max_tokens,
        deadline_s,
        priority,
        Sampling(**sampling),
    )


def submit(prompt: Sequence[int] = (1, 2, 3), outputs: Sequence[Sequence[int]] = ((),), **more: Any) -> frames.Submit:
    fields = {"call": "c", "attempt": 1, "choices": list(range(len(outputs))), "max_tokens": 4, "remaining_s": 60.0}
    return frames.Submit(prompt=ids(prompt), outputs=[ids(o) for o in outputs], **{**fields, **more})


def ids(values: Sequence[int]) -> bytes:
    return array("I", values).tobytes()


def rows(emissions: Sequence[Emission]) -> list[tuple[int, ...]]:
    """(handle, choice, finish, index, token) of all of them."""
    return [tuple(int(x) for x in row) for ready in emissions for row in ready.rows.tolist()]
