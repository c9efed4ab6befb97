"""The engine that turns texts into vectors of length one, on llama.cpp: its pass over texts, and the threads that drive it.

A model that compares two texts gives one number instead, which is passed on as the model has it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import numpy as np

from cordee.domain.call import Task
from cordee.domain.replica import Capacity, EngineFigures, ModelCard
from cordee.engine.job import Broken, Deliver, Job, JobName, Tokens
from cordee.engine.loop import StepFailed
from cordee.engine.texts import TextLoop, Vectors
from cordee.engine.thread import EngineThread
from cordee.kernels.embedding import Embedding, Vector
from cordee.kernels.library import KernelsError
from cordee.policy.texts import TextRules, Texts

TEXTS_OPEN_MAX = 4096  # of all calls; twice what one call of the embeddings endpoint may have


class EmbeddingRunner:
    """One model, each lane of it used by one thread."""

    def __init__(self, embedding: Embedding) -> None:
        self._embedding = embedding

    def compute(self, lane: int, texts: Sequence[Tokens]) -> Vectors:
        try:
            vectors = self._embedding.compute(lane, texts)
        except KernelsError as error:
            raise StepFailed(str(error)) from error
        return vectors if self._embedding.is_rank else [normalised(vector) for vector in vectors]


def normalised(vector: Vector) -> Vector:
    """Of length one, so that products of two are the cosine of their angle. A vector of zeros stays what it is."""
    length = np.sqrt(np.square(vector, dtype=np.float64).sum())
    return (vector / length).astype(np.float32) if length > 0 else vector


def tasks_of(embedding: Embedding) -> tuple[str, ...]:
    return (Task.RANK.value if embedding.is_rank else Task.EMBED.value,)


class EmbedEngine:
    """Port engine.job.Engine. Takes jobs on the event loop's thread, computes on one for each lane, delivers on the event loop's."""

    def __init__(self, embedding: Embedding, card: ModelCard) -> None:
        self.card = card
        self.capacity = Capacity(TEXTS_OPEN_MAX, TEXTS_OPEN_MAX * card.context)
        self._embedding = embedding
        self._threads = [EngineThread(partial(self._run, lane), self._halt) for lane in range(embedding.lanes)]
        rules = TextRules(embedding.texts_max, embedding.tokens_max, embedding.lanes)
        hand_over = self._threads[0].hand_over
        self._texts = TextLoop(EmbeddingRunner(embedding), Texts(rules), time.monotonic, hand_over)

    @property
    def steps(self) -> int:
        return self._texts.steps

    def figures(self) -> EngineFigures:
        """Nothing is shared between texts, and nothing makes room."""
        return EngineFigures()

    def start(self, deliver: Deliver, broken: Broken) -> None:
        for thread in self._threads:
            thread.start(deliver, broken)

    def submit(self, job: Job) -> None:
        self._texts.submit(job)

    def cancel(self, name: JobName) -> None:
        self._texts.cancel(name)

    def stop(self) -> None:
        """Waits for what is under way, then frees the model. Without effect if the engine never started."""
        if not self._threads[0].has_started:
            return
        if all(thread.stop() for thread in self._threads):  # else the process is about to end anyway
            self._embedding.close()
            self._embedding.model.close()

    def _run(self, lane: int) -> None:
        self._texts.run(lane)

    def _halt(self) -> None:
        self._texts.stop()
