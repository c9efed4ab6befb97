"""What a GGUF file is for, as its header says. Loads no kernels: gateways ask too."""

from __future__ import annotations

from cordee.domain.call import Task
from cordee.kernels.gguf import Header

ENCODERS = frozenset({  # llama.cpp's names of what only reads; whatever else has a pooling of its own is one too
    "bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "neo-bert", "eurobert",
    "gemma-embedding",
})  # fmt: skip
POOLING_RANK = 4  # the head of a model that compares two texts
WRITES = (Task.GENERATE.value, Task.SCORE.value)


def tasks_in(header: Header) -> tuple[str, ...]:
    """Values of domain.call.Task that a model can do: one that reads makes vectors or compares, any other writes and scores."""
    architecture = header.metadata.get("general.architecture")
    pooling = header.metadata.get(f"{architecture}.pooling_type")
    if pooling == POOLING_RANK:
        return (Task.RANK.value,)
    return (Task.EMBED.value,) if architecture in ENCODERS or pooling else WRITES
