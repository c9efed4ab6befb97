"""Workers are killed and frozen under streams, hundreds of times: is a token lost or doubled, and how fast do others take over?

    .venv/bin/python -m bench.failover [--kills 100] [--freezes 100] [--streams 24]

Two workers with the oracle engine, one gateway, all on the machine's cores together. Every stream is compared with what the oracle
must have said. Takeover: from the signal to the acceptance of a call by the other worker, as the gateway logs it, on the same
monotonic clock.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bench.machine import percentile, write
from tests.rig import Rig, oracle_text

TOKENS = 100
PAUSE_S = 0.15  # between a worker's return and the next signal
ACCEPTED = re.compile(r"takeover call=(\S+) took_s=(\S+) accepted_s=(\S+)")


class Streams:
    """`count` clients that ask again and again until told to stop."""

    def __init__(self, rig: Rig, count: int) -> None:
        self.rig = rig
        self.served = self.lost = self.wrong = 0
        self.errors: list[str] = []
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        rng = random.Random(number)
        while not self._over.is_set():
            seed = rng.getrandbits(40)
            body = {
                "model": "oracle", "messages": [{"role": "user", "content": "x"}], "max_tokens": TOKENS, "seed": seed,
                "ignore_eos": True, "temperature": rng.choice([0, 1]),
            }  # fmt: skip
            text, error = "", ""
            try:
                for event in self.rig.stream("/v1/chat/completions", body):
                    if "error" in event:
                        error = event["error"]["message"]
                        break
                    text += event["choices"][0]["delta"].get("content") or ""
            except (OSError, AssertionError, ValueError) as trouble:
                error = repr(trouble)
            with self._lock:
                if error:
                    self.lost += 1
                    self.errors.append(error)
                elif text != oracle_text(seed, TOKENS):
                    self.wrong += 1
                else:
                    self.served += 1


def rounds(rig: Rig, how: signal.Signals, count: int) -> list[float]:
    """Times of the signals."""
    times = []
    for number in range(count):
        worker = number % 2
        times.append(rig.kill_worker(worker, how))
        if how is signal.SIGKILL:
            rig.restart_worker(worker)
        else:
            time.sleep(0.4)
            os.kill(rig.workers[worker].pid, signal.SIGCONT)
        rig.wait_ready()
        time.sleep(PAUSE_S)
    return times


def takeovers(rig: Rig, signals: list[float]) -> list[float]:
    """Seconds from a signal to each acceptance that followed it."""
    accepted = sorted(float(found[3]) for found in ACCEPTED.finditer(rig.log("gateway-1")))
    result = []
    for start, end in zip(signals, [*signals[1:], signals[-1] + 5], strict=True):
        result += [at - start for at in accepted if start <= at < min(end, start + 2)]
    return result


def measure(how: signal.Signals, count: int, streams: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        environment = {"CORDEE_LOG_LEVEL": "debug"}
        with Rig(Path(directory), environment=environment) as rig:
            clients = Streams(rig, streams)
            time.sleep(1)
            signals = rounds(rig, how, count)
            clients.stop()
            took = takeovers(rig, signals)
            figures = {
                "signal": how.name,
                "signals": count,
                "streams_at_once": streams,
                "answers_whole": clients.served,
                "answers_lost": clients.lost,
                "answers_wrong": clients.wrong,
                "takeovers": len(took),
                "takeover_ms": {f"p{p}": round(percentile(took, p / 100) * 1000, 1) for p in (50, 90, 99)},
                "takeover_ms_max": round(max(took) * 1000, 1),
                "late_tokens_dropped": int(rig.metric("cordee_late_tokens_total")),
                "errors": sorted(set(clients.errors))[:5],
            }
    print(figures, flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--freezes", type=int, default=100)
    parser.add_argument("--streams", type=int, default=24)
    args = parser.parse_args()
    figures = []
    for how, count in ((signal.SIGKILL, args.kills), (signal.SIGSTOP, args.freezes)):
        if count:
            figures.append(measure(how, count, args.streams))
    print(write("failover", "Is a token lost when workers die or freeze, and how fast do others take over?", figures))


if __name__ == "__main__":
    main()
