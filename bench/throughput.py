"""Tokens a second through the whole platform, beside llama.cpp's own server: same file, same kernels, same threads.

    bench/engine/setup.sh && bench/engine/build_llama_server.sh      # once; about 7 minutes
    .venv/bin/python -m bench.throughput [--conc 1,4,16,64] [--rounds 2] [--threads 2] [--types default,file]

Ours: one worker (exact mode, 64 slots) behind one gateway, over HTTP, streaming. Theirs: llama-server over HTTP with the kernels that
our worker has chosen for this machine. `--types`: `default`, where the engine may write the weights anew for the processor
(`engine.weights = "auto"`), `file`, the file as it is, or what `cordee models quantize` makes of it; llama-server runs the file as it
is. All are taken in turn, so that drift hits each. Closed loop, 64 prompt and 64 output tokens, greedy. Leave the machine alone while
it runs: spinning threads crawl beside any neighbour.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench.machine import write
from tests.ports import free_port
from tests.rig import KEY, Rig

HERE = Path(__file__).parent / "engine"
SCRATCH = Path(os.environ.get("ENG_SCRATCH", Path.home() / ".cache" / "bench-eng"))
MODEL = SCRATCH / "model" / "SmolLM2-135M-Instruct.Q4_1.gguf"
CALLS = {1: 8, 4: 12, 16: 32, 64: 64}
AS_IT_IS, DEFAULT = "file", "default"
SLOTS, CONTEXT = 64, 160
REST_S = 1.0  # between two loads: a server that has answered is still busy for a moment
PEER = "llama-server"
Load = Callable[[int], dict[str, Any]]
NO_REUSE = {"CORDEE_ENGINE_PREFIX_CACHE": "false"}  # prompts come again, and the peer is asked without its cache too
AS_THE_FILE_IS = {"CORDEE_ENGINE_WEIGHTS": "file"}


def load(url: str, mode: str, conc: int, more: Sequence[str] = ()) -> dict[str, Any]:
    prompts = f"prompts={SCRATCH / 'prompts.json'}"
    command = [
        sys.executable,
        str(HERE / "bench_http.py"),
        url,
        mode,
        f"conc={conc}",
        f"n={CALLS[conc]}",
        prompts,
        *more,
    ]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    return result


def encoded(kind: str, directory: Path) -> Path:
    """The model with weights of this type."""
    if kind in {AS_IT_IS, DEFAULT}:
        return MODEL
    target = directory / f"{MODEL.stem}-{kind}.gguf"
    if not target.exists():
        command = [sys.executable, "-m", "cordee.cli", "models", "quantize", str(MODEL), str(target), "--type", kind]
        subprocess.run([*command, "--allow-requantize", "--no-perplexity"], check=True, timeout=600)
    return target


def chosen_kernels(pid: int) -> Path:
    """The CPU library that our worker has loaded."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    found = sorted(set(re.findall(r"\S+/libggml-cpu-\w+\.so", maps)))
    assert len(found) == 1, found
    return Path(found[0])


def llama_server(kernels: Path, directory: Path, threads: int) -> tuple[subprocess.Popen[bytes], str]:
    libraries = directory / "llama"
    shutil.copytree(SCRATCH / "swap", libraries, symlinks=True)
    for old in libraries.glob("libggml-cpu.so*"):
        old.unlink()
    for name in ("libggml-cpu.so.0", "libggml-cpu.so"):
        shutil.copy(kernels, libraries / name)
    port = free_port()
    command = [
        str(libraries / "llama-server"), "-m", str(MODEL), "--host", "127.0.0.1", "--port", str(port), "-np", str(SLOTS),
        "-c", str(SLOTS * CONTEXT), "-t", str(threads), "-tb", str(threads), "-b", "2048", "-ub", "512", "--threads-http", "2",
    ]  # fmt: skip
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
    log = (directory / "llama.log").open("wb")
    return subprocess.Popen(command, env=environment, stdout=log, stderr=log), f"http://127.0.0.1:{port}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conc", default="1,4,16,64")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--types", default=f"{DEFAULT},{AS_IT_IS}")
    args = parser.parse_args()
    levels = [int(level) for level in args.conc.split(",")]
    runs: dict[str, dict[int, list[dict[str, Any]]]] = {}
    loads: list[float] = []
    flags = ("--slots", str(SLOTS), "--context", str(CONTEXT), "--threads", str(args.threads))

    def note(who: str, level: int, row: dict[str, Any]) -> None:
        runs.setdefault(who, {}).setdefault(level, []).append(row)
        loads.append(round(os.getloadavg()[0], 2))
        print(who, row, "load average", loads[-1], flush=True)

    with tempfile.TemporaryDirectory() as name, ExitStack() as servers:
        directory = Path(name)
        loads_of: dict[str, Load] = {}
        for kind in args.types.split(","):
            path, place = str(encoded(kind, directory)), directory / f"ours-{kind}"
            place.mkdir()
            environment = NO_REUSE if kind == DEFAULT else NO_REUSE | AS_THE_FILE_IS
            rig = servers.enter_context(Rig(place, model=path, workers=1, worker_flags=flags, environment=environment))
            kernels = chosen_kernels(rig.workers[0].pid)
            model = json.loads(rig.get("/v1/models"))["data"][0]["id"]
            url = rig.url.removesuffix("/v1")
            loads_of[f"cordee {kind}"] = partial(load, url, "openai", more=(f"key={KEY}", f"model={model}"))
        if (SCRATCH / "swap" / "llama-server").exists():
            server, url = llama_server(kernels, directory, args.threads)
            servers.callback(server.wait)
            servers.callback(server.kill)
            wait(url)
            loads_of[PEER] = partial(load, url, "llama")
        for number in range(args.rounds):
            for level in levels:
                for who in loads_of if number % 2 == 0 else reversed(loads_of):
                    time.sleep(REST_S)
                    note(who, level, loads_of[who](level))
    figures = {
        "kernels": kernels.name,
        "threads": args.threads,
        "load_average": loads,
        "levels": {
            level: {who: summary(rows[level], runs.get(PEER, {}).get(level)) for who, rows in runs.items()}
            for level in levels
        },
        "runs": runs,
    }
    print(json.dumps(figures["levels"], indent=1))
    print(write("throughput", "How many tokens a second, beside llama.cpp's own server?", figures))


def summary(rows: list[dict[str, Any]], peer: list[dict[str, Any]] | None) -> dict[str, float | None]:
    """Medians; `ratio` is the median of the rounds' ratios, of neighbours in time."""
    return {
        "tok_s": round(median(rate(row) for row in rows), 1),
        "ttft_p50_ms": median(row["ttft_p50_ms"] for row in rows),
        "ttft_max_ms": median(row["ttft_max_ms"] for row in rows),
        "ratio": round(median(rate(a) / rate(b) for a, b in zip(rows, peer, strict=True)), 3) if peer else None,
    }


def rate(row: dict[str, Any]) -> float:
    """Both emit exactly 64 tokens a call; events that carry no token are not counted."""
    return row["n"] * 64 / row["wall"]  # type: ignore[no-any-return]


def wait(url: str) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(url + "/health", timeout=1)
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("llama-server did not start")


if __name__ == "__main__":
    main()
