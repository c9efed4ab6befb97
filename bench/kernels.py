"""What does the type of the weights do to a step, and are the rows of a step still nobody else's business?

    .venv/bin/python -m bench.kernels [--types file,Q8_0,Q4_0] [--rounds 3] [--threads 2] [--ubatch 128]

No scheduler and no HTTP: contexts of llama.cpp, one for each type, with the settings of exact mode, taken in turn so that a busy
neighbour meets all of them. The file's weights are written anew by `cordee models quantize`. For 1, 4, 16 and 64 sequences: the shortest
step in which each decodes one token at some position after 64, and the most prompt tokens a second; a neighbour only adds time, so
the best of the rounds is nearest to the truth. `differing`: logits that are not bit for bit those of the sequence alone.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import write
from bench.throughput import AS_IT_IS, encoded
from cordee.adapters.libraries import library_directory
from cordee.config.load import cache_dir
from cordee.kernels.context import Context
from cordee.kernels.library import load
from cordee.kernels.llama import Model
from cordee.kernels.settings import ContextSettings

LEVELS = {1: 12, 4: 8, 16: 6, 64: 4}  # sequences, and steps of them in one round
PROMPT, CONTEXT, BATCH = 64, 160, 2048
TOKENS = 40_000  # ids below are drawn for prompts; all of the vocabulary's ordinary ones
CROWD = 7


class Kernels:
    """One encoding of the weights, with room for the largest level."""

    def __init__(self, model: Model, threads: int, ubatch: int) -> None:
        self._context = Context(model, ContextSettings(max(LEVELS), CONTEXT, BATCH, ubatch, threads, exact=True))
        rng = np.random.default_rng(1)
        self._prompts = rng.integers(100, TOKENS, (max(LEVELS), PROMPT)).astype(np.int32)

    def prefill_s(self, sequences: list[int]) -> tuple[float, list[bytes]]:
        """Seconds for the prompts of these sequences in the first slots, and the logits behind each."""
        context = self._context
        took_s, logits = 0.0, []
        at_once = BATCH // PROMPT
        for first in range(0, len(sequences), at_once):
            part = sequences[first : first + at_once]
            slots = np.arange(first, first + len(part))
            for slot in slots:
                context.cut(int(slot), 0)
            rows = len(part) * PROMPT
            context.tokens[:rows] = self._prompts[part].ravel()
            context.positions[:rows] = np.tile(np.arange(PROMPT), len(part))
            context.slots[:rows] = np.repeat(slots, PROMPT)
            context.wanted[:rows] = 0
            context.wanted[PROMPT - 1 : rows : PROMPT] = 1
            took_s += self._decode_s(rows)
            logits += [row.tobytes() for row in context.logits(len(part))]
        return took_s, logits

    def step_s(self, sequences: int, position: int) -> tuple[float, list[bytes]]:
        """Seconds for one token more of each of the first slots, and the logits behind each."""
        context = self._context
        context.tokens[:sequences] = position
        context.positions[:sequences] = position
        context.slots[:sequences] = np.arange(sequences)
        context.wanted[:sequences] = 1
        return self._decode_s(sequences), [row.tobytes() for row in context.logits(sequences)]

    def _decode_s(self, rows: int) -> float:
        start = time.perf_counter()
        code = self._context.decode(rows)
        assert code == 0, code
        return time.perf_counter() - start

    def differing(self) -> int:
        """Of a crowd's logits after prompt and first step, those that are other bits than alone."""
        alone = []
        for sequence in range(CROWD):
            _, after_prompt = self.prefill_s([sequence])
            _, after_step = self.step_s(1, PROMPT)
            alone.append((after_prompt[0], after_step[0]))
        _, after_prompt = self.prefill_s(list(range(CROWD)))
        _, after_step = self.step_s(CROWD, PROMPT)
        return sum(
            (one != prompt) + (two != step)
            for (one, two), prompt, step in zip(alone, after_prompt, after_step, strict=True)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--types", default=f"{AS_IT_IS},Q8_0,Q4_0")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ubatch", type=int, default=128)
    args = parser.parse_args()
    library = load(library_directory("", cache_dir()))
    best: dict[str, dict[int, list[float]]] = {}
    figures: dict[str, Any] = {"kernels": library.variant.split(" ")[0], "threads": args.threads, "ubatch": args.ubatch}
    with tempfile.TemporaryDirectory() as name:
        paths = {kind: encoded(kind, Path(name)) for kind in args.types.split(",")}
        opened = {kind: Kernels(Model(library, path), args.threads, args.ubatch) for kind, path in paths.items()}
        for _ in range(args.rounds):
            for sequences, steps in LEVELS.items():
                for kind, kernels in opened.items():
                    prefill_s, _ = kernels.prefill_s(list(range(sequences)))
                    step_s = min(kernels.step_s(sequences, PROMPT + step)[0] for step in range(steps))
                    found = best.setdefault(kind, {}).setdefault(sequences, [prefill_s, step_s])
                    found[:] = min(found[0], prefill_s), min(found[1], step_s)
        figures["types"] = {
            kind: {
                "MB": paths[kind].stat().st_size // 1_000_000,
                "differing": opened[kind].differing(),
                **{
                    sequences: {
                        "step_ms": round(1e3 * step_s, 1),
                        "decode_tok_s": round(sequences / step_s, 1),
                        "prefill_tok_s": round(sequences * PROMPT / prefill_s, 1),
                    }
                    for sequences, (prefill_s, step_s) in levels.items()
                },
            }
            for kind, levels in best.items()
        }
    figures["load_average"] = round(os.getloadavg()[0], 2)
    print(write("kernels", "What does the type of the weights do to a step?", figures).read_text())


if __name__ == "__main__":
    main()
