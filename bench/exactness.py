"""Is an answer the same alone, in company, and when its worker is killed in the middle? And what does that promise cost?

    .venv/bin/python -m bench.exactness [--scenes plain,everything,price] [--calls 200] [--tokens 64]

The default model, one thread a worker, exact mode, behind one gateway, through /v1/completions.

- plain: fifty prompts, greedy, two workers: alone, sixteen at once, and sixteen at once while one worker after the other is killed.
- everything: `--calls` calls, half of them seeded, prompts with common beginnings, a third of them urgent, on two workers
  with four slots each, so that calls make room for others and go on later, their states moved: while workers are killed, against the
  answers of one slot without reuse.
- price: the time to the first token of prompts of 512 to 4,000 tokens, in exact mode and without it, in turn.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from bench.machine import write
from tests.rig import HEADERS, Rig

MODEL = "smollm2-135m-instruct"
SUBJECTS = (
    "a river", "the moon", "a small town", "an old clock", "bread", "a bridge", "winter", "a library", "salt", "a garden",
)  # fmt: skip
OPENINGS = (
    "Here is a story about {}.", "The history of {} begins", "What I know about {} is", "List three facts about {}:", "Dear {},",
)  # fmt: skip
COMMON = "The keeper of the lighthouse writes down the wind, the height of the waves and every ship that passes. "
COMMON_SENTENCES = 8  # some 170 tokens: several blocks of what prefixes are found by
AT_ONCE = 16
PRIORITIES = ("interactive", "batch", "batch")
LENGTHS = (512, 1024, 2048, 4000)  # tokens of a prompt
WORD = " wave"  # one token
ROUNDS = 3
PATIENCE_S = 600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", default="plain,everything,price")
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=64)
    args = parser.parse_args()
    scenes: dict[str, Callable[[], dict[str, Any]]] = {
        "plain": lambda: plain(args.tokens),
        "everything": lambda: everything(args.calls, args.tokens),
        "price": price,
    }
    figures: dict[str, Any] = {"model": MODEL, "tokens": args.tokens}
    for name in args.scenes.split(","):
        figures[name] = scenes[name]()
        print(name, figures[name], flush=True)
    print(write("exactness", "Is an answer the same alone, in company, and when its worker is killed?", figures))


def plain(tokens: int) -> dict[str, Any]:
    bodies = [
        {"prompt": opening.format(subject), "max_tokens": tokens, "temperature": 0}
        for opening in OPENINGS
        for subject in SUBJECTS
    ]
    with started(slots=16, context=256) as rig:
        alone = answers(rig, bodies, 2)  # one on each worker
        together = answers(rig, bodies, AT_ONCE)
        with killing(rig) as kills:
            killed = answers(rig, bodies, AT_ONCE)
        takeovers = int(rig.metric("cordee_takeover_seconds_count"))
    return {
        "calls": len(bodies), "differ_together": differ(alone, together), "differ_killed": differ(alone, killed),
        "kills": len(kills), "takeovers": takeovers,
    }  # fmt: skip


def everything(calls: int, tokens: int) -> dict[str, Any]:
    bodies = [
        {
            "prompt": f"{COMMON * (COMMON_SENTENCES if number % 2 else 0)}{number}. {OPENINGS[number % 5].format(SUBJECTS[number % 10])}",
            "max_tokens": tokens,
            **({"temperature": 0.8, "top_p": 0.95, "seed": number} if number % 4 < 2 else {"temperature": 0}),
        }
        for number in range(calls)
    ]
    with started(slots=1, context=512, prefix_cache="false") as rig:
        alone = answers(rig, bodies, 2)
    # where nothing is kept in place, a call that makes room is saved and put back
    with started(slots=4, context=512, spare="0") as rig:
        with killing(rig, every_s=4.0) as kills:
            killed = answers(rig, bodies, AT_ONCE, PRIORITIES)
        found = {
            "preemptions": int(rig.metric("cordee_engine_preemptions_total")),
            "takeovers": int(rig.metric("cordee_takeover_seconds_count")),
        }
        calm = answers(rig, bodies, AT_ONCE, PRIORITIES)
        found["preemptions_calm"] = int(rig.metric("cordee_engine_preemptions_total"))
    return {
        "calls": calls, "differ_calm": differ(alone, calm), "differ_killed": differ(alone, killed), "kills": len(kills), **found
    }  # fmt: skip


def price() -> dict[str, Any]:
    """Seconds to the first token, the median of rounds in turn, and what exact mode takes times as long."""
    took: dict[tuple[bool, int], list[float]] = {}
    for _ in range(ROUNDS):
        for exact in (True, False):
            with started(slots=4, context=4608, workers=1, prefix_cache="false", exact=str(exact).lower()) as rig:
                first_token_s(rig, 64)
                for length in LENGTHS:
                    took.setdefault((exact, length), []).append(first_token_s(rig, length))
    return {
        str(length): {
            "exact_s": round(median(took[True, length]), 3),
            "not_exact_s": round(median(took[False, length]), 3),
            "ratio": round(median(took[True, length]) / median(took[False, length]), 2),
        }
        for length in LENGTHS
    }


@contextmanager
def started(slots: int, context: int, workers: int = 2, **settings: str) -> Iterator[Rig]:
    environment = {"CORDEE_CACHE": os.environ.get("CORDEE_CACHE", str(Path.home() / ".cache" / "cordee"))}
    environment |= {f"CORDEE_ENGINE_{name.upper()}": value for name, value in settings.items()}
    flags = ("--threads", "1", "--slots", str(slots), "--context", str(context))
    with (
        tempfile.TemporaryDirectory() as directory,
        Rig(Path(directory), model=MODEL, workers=workers, environment=environment, worker_flags=flags) as rig,
    ):
        yield rig


@contextmanager
def killing(rig: Rig, every_s: float = 2.0) -> Iterator[list[float]]:
    """One of the two workers dies, about so often, and is started again; yields when each died."""
    over, kills, rng = threading.Event(), list[float](), random.Random(1)

    def strike() -> None:
        while not over.wait(every_s * (0.5 + rng.random())):
            number = rng.randrange(2)
            kills.append(rig.kill_worker(number))
            rig.restart_worker(number)
            rig.wait_ready()

    striking = threading.Thread(target=strike)
    striking.start()
    try:
        yield kills
    finally:
        over.set()
        striking.join()


def answers(rig: Rig, bodies: Sequence[dict[str, Any]], at_once: int, priorities: Sequence[str] = ("",)) -> list[str]:
    with ThreadPoolExecutor(at_once) as pool:
        return list(
            pool.map(lambda each: answer(rig, each[1], priorities[each[0] % len(priorities)]), enumerate(bodies))
        )


def answer(rig: Rig, body: dict[str, Any], priority: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", rig.ports[0], timeout=PATIENCE_S)
    asked = {"model": MODEL, "ignore_eos": True, "stream": True, **body}
    headers = {**HEADERS, "X-Request-Timeout": str(PATIENCE_S), **({"X-Cordee-Priority": priority} if priority else {})}
    connection.request("POST", "/v1/completions", json.dumps(asked), headers)
    response = connection.getresponse()
    lines = response.read().decode().splitlines()
    if response.status != http.client.OK or "data: [DONE]" not in lines:
        raise RuntimeError(f"{response.status}: {lines[-3:]}")
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    return "".join(choice["text"] for event in events for choice in event["choices"])


def first_token_s(rig: Rig, length: int) -> float:
    body = {"model": MODEL, "prompt": WORD * length, "max_tokens": 1, "temperature": 0}
    began = time.perf_counter()
    status, said = rig.post("/v1/completions", body, timeout_s=PATIENCE_S)
    if status != http.client.OK:
        raise RuntimeError(f"{status}: {said}")
    return time.perf_counter() - began


def differ(these: Sequence[str], those: Sequence[str]) -> int:
    return sum(one != other for one, other in zip(these, those, strict=True))


if __name__ == "__main__":
    main()
