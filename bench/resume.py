"""A gateway is killed under a thousand resumable streams: is every one resumed, is a token lost or doubled, and how soon do they go on?

    .venv/bin/python -m bench.resume [--fault killed] [--streams 1000] [--rounds 3] [--tokens 400]

Gateways, two workers with the oracle engine and a Valkey, all on the machine's cores together with the clients. In each round the
fault strikes when every stream has begun (bench.resume_faults tells which there are); clients come back to the next gateway, spread
by the `retry:` they were given. Every answer is compared with what the oracle must have said, token by token. Resumed within: from
the beginning of a reconnection to its first event. A stream that said from the start that it cannot be resumed, because the store
was away, may be asked for anew: that is counted apart.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench.machine import RESULTS, percentile, write
from bench.resume_faults import FAULTS, Field
from tests.resuming import Stream
from tests.rig import Rig, oracle_text, seeds
from tests.valkey import Valkey

TOKENS = 400
TOKEN_S = 0.05  # of the oracle: a pace that a thousand streams and their clients keep up with on two cores
BEGIN_S_MAX = 120.0
END_S_MAX = 300.0
SOURCES = ("ring", "journal", "regenerated")


class Tally:
    """What became of all streams."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.resumed_s: list[float] = []
        self.wrong: list[str] = []

    def add(self, stream: Stream, tokens: int) -> None:
        wanted, got = oracle_text(stream.body["seed"], tokens).split(), stream.text.split()
        is_whole = got == wanted and stream.done == 1 and stream.finishes == ["length"] and stream.roles == 1
        self.counts["streams"] += 1
        self.counts["resumed"] += bool(stream.resumed_s)
        self.counts["served_whole"] += is_whole
        self.counts["doubled"] += len(got) > len(wanted) or stream.done > 1 or len(stream.finishes) > 1
        self.counts["lost_or_changed"] += got != wanted and len(got) <= len(wanted)
        self.counts["not_resumable"] += not stream.was_kept
        self.counts["asked_anew"] += stream.restarts
        self.counts["put_off"] += stream.put_off
        self.resumed_s += stream.resumed_s[-1:]
        self.refused.update(f"{status} {_code(body)}" for status, body in stream.refused)
        if not is_whole:
            self.wrong.append(f"{stream.last_id}: {len(got)} of {len(wanted)} tokens, {stream.done} done")

    def figures(self) -> dict[str, Any]:
        within = (
            {f"p{p}": round(1000 * percentile(self.resumed_s, p / 100), 1) for p in (50, 90, 99)}
            if self.resumed_s
            else {}
        )
        return {**self.counts, "refused": dict(self.refused), "resumed_within_ms": within}


async def one_round(field: Field, fault: str, streams: list[Stream]) -> list[Stream]:
    """Returns the streams, and those that the fault has added."""
    strike = FAULTS[fault]
    if strike.before is not None:
        strike.before(field)
    tasks = [asyncio.create_task(stream.follow(field.rig.ports)) for stream in streams]
    await asyncio.wait_for(asyncio.gather(*(stream.begun.wait() for stream in streams)), BEGIN_S_MAX)
    more = await strike.happens(field, streams)
    others = [asyncio.create_task(stream.follow(ports)) for stream, ports in more]
    await asyncio.wait_for(asyncio.gather(*tasks, *others, return_exceptions=True), END_S_MAX)
    await field.over()
    return [*streams, *(stream for stream, _ in more)]


def measure(fault: str, streams_: int, rounds: int, tokens: int) -> tuple[dict[str, Any], list[str]]:
    """The figures, and what was wrong with streams that were not whole."""
    tally, sources = Tally(), Counter[str]()
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            settings = directory / "cordee.toml"
            settings.write_text(f"[oracle]\ntoken_s = {TOKEN_S}\n")
            flags = ("--config", str(settings))
            with (
                Valkey(directory) as store,
                Rig(
                    directory, gateways=FAULTS[fault].gateways, worker_flags=flags,
                    gateway_flags=("--store", store.url, *flags),
                ) as rig,
            ):  # fmt: skip
                asked = [Stream(_body(seed, tokens)) for seed in seeds(streams_, of=number)]
                began_s = time.monotonic()
                for stream in asyncio.run(one_round(Field(rig, store), fault, asked)):
                    tally.add(stream, tokens)
                for gateway in range(len(rig.ports)):
                    for source in SOURCES:
                        sources[source] += int(rig.metric_of("cordee_resumes_total", f'source="{source}"', gateway))
        print(f"{fault}, round {number + 1}: {tally.counts['served_whole']} whole, {time.monotonic() - began_s:.1f} s")
    return {**tally.figures(), "served_from": dict(sources)}, tally.wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fault", choices=[*FAULTS, "all"], default="killed")
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=TOKENS)
    given = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    path = RESULTS / "resume.json"
    figures = json.loads(path.read_text())["figures"] if path.exists() else {}
    wrong: list[str] = []
    for fault in FAULTS if given.fault == "all" else (given.fault,):
        measured, found = measure(fault, given.streams, given.rounds, given.tokens)
        figures[fault] = {"what": FAULTS[fault].what, **measured}
        wrong += found
        print(figures[fault])
    write("resume", __doc__.splitlines()[0], figures)
    assert not wrong, f"{len(wrong)} streams were not whole, such as {wrong[:5]}"


def _body(seed: int, tokens: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": "x"}]
    return {"model": "oracle", "messages": messages, "max_tokens": tokens, "seed": seed, "ignore_eos": True}


def _code(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return "?"


if __name__ == "__main__":
    main()
