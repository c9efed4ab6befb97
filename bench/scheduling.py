"""What does the scheduler do for those who share an engine: common beginnings, long prompts, overload, and its own share of a step?

    .venv/bin/python -m bench.scheduling [--scenes prefix,mix,overload,share] [--seconds 12] [--threads 1] [--model FILE]

One worker (exact mode) behind one gateway, over HTTP, greedy, the default model. Each scene is its own worker.

- prefix: 16 calls at once with one system prompt of some 512 tokens, 16 tokens of answer: tokens a second with and without reuse.
- mix: 4 short chats that go on and on: the time between their tokens, p50 and p99, alone and while prompts of some 4,000 tokens come in.
- overload: time to the first token of interactive calls, alone and under five times as many batch calls as there are slots.
- share: 64 at once: the share of a step that is spent outside the kernels, as the engine itself counts it.

The machine's load average stands beside the figures; two threads that share their processors with a neighbour measure the neighbour.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.machine import percentile, write
from tests.rig import HEADERS, Rig

MODEL = "smollm2-135m-instruct"
SENTENCE = "The keeper of the lighthouse writes down the wind, the height of the waves and every ship that passes. "
SYSTEM_SENTENCES = 24  # some 512 tokens
LONG_SENTENCES = 186  # some 4,000 tokens; the model was trained for 8,192
LONG_CONTEXT = 4608
SHORT_CHATS = 4
OVERLOAD = 5
PATIENCE_S = 120.0  # until calls that are no longer wanted have noticed
FIGURES_S = 2.5  # until a worker has told its gateway what it counted


class Calls:
    """Streaming calls to one gateway."""

    def __init__(self, rig: Rig, model: str) -> None:
        self._rig = rig
        self._model = model

    def times(
        self, prompt: str, tokens: int, priority: str = "standard", over: Callable[[], bool] = bool
    ) -> list[float]:
        """When the call was made, and when each of its events came; given up when `over`."""
        connection = http.client.HTTPConnection("127.0.0.1", self._rig.ports[0], timeout=600)
        body = {
            "model": self._model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True,
        }  # fmt: skip
        found = [time.perf_counter()]
        connection.request("POST", "/v1/completions", json.dumps(body), {**HEADERS, "X-Cordee-Priority": priority})
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise RuntimeError(f"{response.status}: {response.read()[:400]!r}")
        for line in response:
            if line.startswith(b"data: {"):
                found.append(time.perf_counter())
                if over():
                    break
        connection.close()
        return found

    def first_token_s(self, prompt: str, tokens: int, priority: str) -> float:
        times = self.times(prompt, tokens, priority)
        return times[1] - times[0]


class Scenes:
    def __init__(self, model: str, threads: int, seconds: float) -> None:
        self._model = model
        self._threads = threads
        self._seconds = seconds

    def _rig(self, directory: str, slots: int, context: int, **settings: str) -> Rig:
        environment = {"CORDEE_CACHE": os.environ.get("CORDEE_CACHE", str(Path.home() / ".cache" / "cordee"))}
        environment |= {f"CORDEE_ENGINE_{name.upper()}": value for name, value in settings.items()}
        flags = ("--threads", str(self._threads), "--slots", str(slots), "--context", str(context))
        return Rig(Path(directory), model=self._model, workers=1, environment=environment, worker_flags=flags)

    def _calls(self, rig: Rig) -> Calls:
        return Calls(rig, json.loads(rig.get("/v1/models"))["data"][0]["id"])

    def prefix(self) -> dict[str, Any]:
        calls, tokens, at_once = 32, 16, 16
        rates = {}
        for reuse in ("false", "true"):
            with tempfile.TemporaryDirectory() as name, self._rig(name, at_once, 768, prefix_cache=reuse) as rig:
                asking = self._calls(rig)
                asking.times("Once", 4)

                def ask(number: int, asking: Calls = asking) -> list[float]:
                    return asking.times(f"{SENTENCE * SYSTEM_SENTENCES}\nQuestion {number}:", tokens)

                start = time.perf_counter()
                with ThreadPoolExecutor(at_once) as pool:
                    list(pool.map(ask, range(calls)))
                rates[reuse] = calls * tokens / (time.perf_counter() - start)
        return {
            "tok_s_without": round(rates["false"], 1),
            "tok_s_with": round(rates["true"], 1),
            "ratio": round(rates["true"] / rates["false"], 2),
        }

    def mix(self) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as name, self._rig(name, SHORT_CHATS + 2, LONG_CONTEXT) as rig:
            asking = self._calls(rig)
            asking.times("Once", 4)
            alone, _ = self._gaps(asking, 0)
            mixed, long_prompts = self._gaps(asking, 1)
        return {
            "between_tokens_alone_ms": _spread(alone),
            "between_tokens_mixed_ms": _spread(mixed),
            "p99_ratio": round(percentile(mixed, 0.99) / percentile(alone, 0.99), 2),
            "long_prompts_begun": long_prompts,
        }

    def _gaps(self, asking: Calls, long_prompts: int) -> tuple[list[float], int]:
        """Seconds between the tokens of short chats, while so many long prompts are there at any time."""
        end = time.perf_counter() + self._seconds * (1 + 2 * bool(long_prompts))
        over = threading.Event()
        begun = 0

        def chat(number: int) -> list[float]:
            gaps: list[float] = []
            while time.perf_counter() < end:
                times = asking.times(f"Chat {number} about a river.", 48)
                gaps += [later - before for before, later in pairwise(times[1:])]
            return gaps

        def read(number: int) -> None:
            nonlocal begun
            while not over.is_set():
                begun += 1
                asking.times(f"Book {number}-{begun}. {SENTENCE * LONG_SENTENCES}", 4, over=over.is_set)

        readers = [threading.Thread(target=read, args=(number,), daemon=True) for number in range(long_prompts)]
        for reader in readers:
            reader.start()
        with ThreadPoolExecutor(SHORT_CHATS) as pool:
            gaps = [gap for found in pool.map(chat, range(SHORT_CHATS)) for gap in found]
        over.set()
        for reader in readers:
            reader.join(PATIENCE_S)
        return gaps, begun

    def overload(self) -> dict[str, Any]:
        slots, asked = 4, 16
        with tempfile.TemporaryDirectory() as name, self._rig(name, slots, 256) as rig:
            asking = self._calls(rig)
            asking.times("Once", 4)
            alone = [asking.first_token_s(f"Question {n} about a bridge?", 4, "interactive") for n in range(asked)]
            over = threading.Event()

            def batch(number: int) -> None:
                while not over.is_set():
                    asking.times(f"Report {number} about salt.", 64, "batch", over.is_set)

            crowd = [threading.Thread(target=batch, args=(n,), daemon=True) for n in range(OVERLOAD * slots)]
            for one in crowd:
                one.start()
            time.sleep(self._seconds / 4)  # until all slots run
            loaded = [asking.first_token_s(f"Question {n} about a bridge?", 4, "interactive") for n in range(asked)]
            over.set()
            for one in crowd:
                one.join(PATIENCE_S)
        return {
            "first_token_alone_ms": _spread(alone),
            "first_token_loaded_ms": _spread(loaded),
            "p99_ratio": round(percentile(loaded, 0.99) / percentile(alone, 0.99), 2),
        }

    def share(self) -> dict[str, Any]:
        at_once = 64
        with tempfile.TemporaryDirectory() as name, self._rig(name, at_once, 160) as rig:
            asking = self._calls(rig)
            with ThreadPoolExecutor(at_once) as pool:
                list(pool.map(lambda n: asking.times(f"Story {n} about the moon.", 48), range(at_once)))
            time.sleep(FIGURES_S)
            return {"outside_share": rig.metric("cordee_engine_outside_ratio")}


def _spread(seconds: list[float]) -> dict[str, float]:
    return {
        "p50": round(1e3 * percentile(seconds, 0.5), 1),
        "p99": round(1e3 * percentile(seconds, 0.99), 1),
        "count": len(seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", default="prefix,mix,overload,share")
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", default=MODEL)
    args = parser.parse_args()
    scenes = Scenes(args.model, args.threads, args.seconds)
    known: dict[str, Callable[[], dict[str, Any]]] = {
        "prefix": scenes.prefix, "mix": scenes.mix, "overload": scenes.overload, "share": scenes.share,
    }  # fmt: skip
    figures: dict[str, Any] = {"model": Path(args.model).name, "threads": args.threads}
    for scene in args.scenes.split(","):
        figures[scene] = {**known[scene](), "load_average": round(os.getloadavg()[0], 2)}
        print(scene, figures[scene], flush=True)
    print(write("scheduling", "What does the scheduler do for those who share an engine?", figures))


if __name__ == "__main__":
    main()
