"""The engine for a model that turns texts into vectors, or compares them, put together."""

from __future__ import annotations

import logging
from pathlib import Path

from cordee.adapters.models import ModelFile
from cordee.compose.sizing import context_settings
from cordee.config.tree import Config
from cordee.domain.replica import ModelCard
from cordee.engine.fingerprint import fingerprint
from cordee.engine.runner_embed import EmbedEngine, tasks_of
from cordee.kernels.embedding import PASSES, Embedding, EmbeddingSettings
from cordee.kernels.library import load
from cordee.kernels.llama import Model

log = logging.getLogger(__name__)


def open_embedding(config: Config, found: ModelFile, path: Path, library_directory: Path, sha256: str) -> EmbedEngine:
    """The file has been found whole; `sha256` is its own. Loaded and run once, not started. Raises KernelsError."""
    library = load(library_directory)
    model = Model(library, path)
    wished = context_settings(config, model.trained_context)
    settings = EmbeddingSettings(wished.context, wished.ubatch, wished.threads, config.engine.exact_vectors)
    embedding = Embedding(model, settings)
    embedding.run_once()
    parts = {
        "weights": sha256,
        "library": library.build,
        "processor": library.variant,
        "exact": settings.exact,
        "rows": settings.rows,
        "context": settings.context,
        "passes": PASSES,
    }
    card = ModelCard(
        found.name, fingerprint(parts), settings.context, model.size, settings.exact, tasks=tasks_of(embedding)
    )
    log.info(
        "%s: texts of up to %d tokens as %d numbers on %d processors, %s", found.name, settings.context, embedding.width,
        settings.lanes, library.variant,
    )  # fmt: skip
    return EmbedEngine(embedding, card)
