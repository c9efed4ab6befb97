"""Is an answer the same alone, in a batch, and when its worker is killed in the middle?

    .venv/bin/python -m bench.exactness [--prompts 50] [--tokens 64]

The default model on two workers (one thread each, exact mode) behind one gateway; greedy, through /v1/completions. "Killed": 16 streams at
once, one of the two workers killed at a random moment again and again until every prompt has been answered.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.machine import write
from tests.rig import Rig

MODEL = "smollm2-135m-instruct"
SUBJECTS = (
    "a river",
    "the moon",
    "a small town",
    "an old clock",
    "bread",
    "a bridge",
    "winter",
    "a library",
    "salt",
    "a garden",
)
OPENINGS = (
    "Here is a story about {}.",
    "The history of {} begins",
    "What I know about {} is",
    "List three facts about {}:",
    "Dear {},",
)
AT_ONCE = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=64)
    args = parser.parse_args()
    prompts = [opening.format(subject) for opening in OPENINGS for subject in SUBJECTS][: args.prompts]
    environment = {"CORDEE_CACHE": os.environ.get("CORDEE_CACHE", str(Path.home() / ".cache" / "cordee"))}
    with tempfile.TemporaryDirectory() as directory:
        flags = ("--threads", "1", "--slots", "16", "--context", "256")
        with Rig(Path(directory), model=MODEL, environment=environment, worker_flags=flags) as rig:

            def ask(prompt: str) -> str:
                body = {
                    "model": MODEL,
                    "prompt": prompt,
                    "max_tokens": args.tokens,
                    "temperature": 0,
                    "ignore_eos": True,
                }
                return "".join(
                    e["choices"][0]["text"] for e in rig.stream("/v1/completions", body, timeout_s=300) if e["choices"]
                )

            with ThreadPoolExecutor(2) as pool:  # one on each worker
                alone = list(pool.map(ask, prompts))
            with ThreadPoolExecutor(AT_ONCE) as pool:
                batched = list(pool.map(ask, prompts))
            over = threading.Event()
            kills: list[float] = []

            def strike() -> None:
                rng = random.Random(1)
                while not over.wait(1 + 2 * rng.random()):
                    number = rng.randrange(2)
                    kills.append(rig.kill_worker(number))
                    rig.restart_worker(number)
                    rig.wait_ready()

            striking = threading.Thread(target=strike)
            striking.start()
            with ThreadPoolExecutor(AT_ONCE) as pool:
                killed = list(pool.map(ask, prompts))
            over.set()
            striking.join()
            figures: dict[str, Any] = {
                "model": MODEL,
                "prompts": len(prompts),
                "tokens": args.tokens,
                "differ_batched": sum(a != b for a, b in zip(alone, batched, strict=True)),
                "differ_killed": sum(a != b for a, b in zip(alone, killed, strict=True)),
                "kills": len(kills),
                "takeovers": int(rig.metric("cordee_takeover_seconds_count")),
            }
    print(figures)
    print(write("exactness", "Is an answer the same alone, in a batch, and when its worker is killed?", figures))


if __name__ == "__main__":
    main()
