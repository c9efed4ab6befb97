"""Where the tasks are asked for."""

from __future__ import annotations

EMBEDDINGS = b"/v1/embeddings"
RERANK = b"/v1/rerank"
SCORE = b"/v1/score"
EVALUATE = b"/v1/evaluate"
TASK_PATHS = frozenset({EMBEDDINGS, RERANK, SCORE, EVALUATE})
