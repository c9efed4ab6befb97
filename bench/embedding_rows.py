"""How many rows should a text have in its pass? Milliseconds of a pass, on one processor, by the number of tokens.

    .venv/bin/python -m bench.embedding_rows [--rounds 12] [--lengths 12,30,33,42,46,50,58,63]

In exact mode a text has a pass of its own. `own`: as many rows as tokens; `multiple`: up to the next multiple of 16; `tiled`: 64 rows,
with flash attention; `chosen`: what `kernels.embedding.rows_of` makes of it. The rows beyond its tokens belong to a second text that
nobody asks for. All are taken in turn; processor time is counted, and a neighbour only adds to it: the best of the rounds counts.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from bench.machine import write
from cordee.adapters.libraries import library_directory
from cordee.adapters.models import EMBEDDING, resolve
from cordee.config.load import cache_dir
from cordee.kernels import embedding as kernels
from cordee.kernels.embedding import FLASH_ROWS, ROUND_ROWS, Embedding, EmbeddingSettings
from cordee.kernels.library import load
from cordee.kernels.llama import Model

LENGTHS = "4,8,12,14,15,16,20,24,29,30,31,33,37,42,43,44,45,46,47,49,50,52,54,56,58,60,62,63,64"
IDS = (2000, 29000)  # ordinary words of the vocabulary

Rule = Callable[[int], int]
CHOSEN: Rule = kernels.rows_of
RULES: dict[str, Rule] = {
    "own": lambda length: length,
    "multiple": lambda length: -(-length // ROUND_ROWS) * ROUND_ROWS,
    "tiled": lambda length: max(length, FLASH_ROWS),
    "chosen": CHOSEN,
}


def pass_ms(embedding: Embedding, ids: kernels.Ids, rule: Rule) -> float:
    with patch.object(kernels, "rows_of", rule):
        begun_s = time.thread_time()
        embedding.compute(0, [ids])
        return 1e3 * (time.thread_time() - begun_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--lengths", default=LENGTHS)
    args = parser.parse_args()
    path = resolve(EMBEDDING, cache_dir(os.environ)).path
    assert isinstance(path, Path), "cordee models pull all-minilm-l6-v2"
    model = Model(load(library_directory("", cache_dir(os.environ))), path)
    embedding = Embedding(model, EmbeddingSettings(model.trained_context, FLASH_ROWS, 1, exact=True))
    rng = np.random.default_rng(1)
    found: dict[int, dict[str, float]] = {}
    for length in map(int, args.lengths.split(",")):
        ids = rng.integers(*IDS, length).astype(np.int32)
        runs: dict[str, list[float]] = {name: [] for name in RULES}
        for _ in range(args.rounds):
            for name, rule in RULES.items():
                runs[name].append(pass_ms(embedding, ids, rule))
        found[length] = {"rows": CHOSEN(length), **{name: round(min(each), 2) for name, each in runs.items()}}
        print(length, found[length], flush=True)
    question = "How many rows should a text have in its pass, by milliseconds of one processor?"
    figures: dict[str, Any] = {"rounds": args.rounds, "variant": model.library.variant.split()[0], "tokens": found}
    print(write("embedding_rows", question, figures))
    embedding.close()
    model.close()


if __name__ == "__main__":
    main()
