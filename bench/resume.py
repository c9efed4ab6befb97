"""A gateway is killed under a thousand resumable streams: is every one resumed, is a token lost or doubled, and how soon do they go on?

    .venv/bin/python -m bench.resume [--streams 1000] [--rounds 3]

Two gateways, two workers with the oracle engine and a Valkey, all on the machine's cores together with the clients. In each round
the first gateway is killed with SIGKILL when every stream has begun; its clients come back to the other one, spread by the `retry:`
they were given. Every answer is compared with what the oracle must have said. Resumed within: from the beginning of a
reconnection to its first event.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import tempfile
import time
from pathlib import Path

from bench.machine import percentile, write
from tests.resuming import Stream
from tests.rig import Rig, oracle_text, seeds
from tests.valkey import Valkey

TOKENS = 400
TOKEN_S = 0.05  # of the oracle: a pace that a thousand streams and their clients keep up with on two cores
BEGIN_S_MAX = 120.0
END_S_MAX = 300.0


async def one_round(rig: Rig, streams: list[Stream]) -> float:
    """Returns how long it took from the kill until all had ended."""
    tasks = [asyncio.create_task(stream.follow(rig.ports)) for stream in streams]
    await asyncio.wait_for(asyncio.gather(*(stream.begun.wait() for stream in streams)), BEGIN_S_MAX)
    killed_s = time.monotonic()
    rig.gateways[0].kill()
    rig.gateways[0].wait()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), END_S_MAX)
    return time.monotonic() - killed_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    resumed = lost = doubled = served = 0
    resumed_s: list[float] = []
    for number in range(given.rounds):
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            settings = directory / "cordee.toml"
            settings.write_text(f"[oracle]\ntoken_s = {TOKEN_S}\n")
            flags = ("--config", str(settings))
            with (
                Valkey(directory) as store,
                Rig(directory, gateways=2, worker_flags=flags, gateway_flags=("--store", store.url, *flags)) as rig,
            ):
                streams = [
                    Stream(
                        {
                            "model": "oracle", "messages": [{"role": "user", "content": "x"}], "max_tokens": TOKENS,
                            "seed": seed, "ignore_eos": True,
                        }
                    )
                    for seed in seeds(given.streams, of=number)
                ]  # fmt: skip
                took_s = asyncio.run(one_round(rig, streams))
        for stream in streams:
            wanted, got = oracle_text(stream.body["seed"], TOKENS).split(), stream.text.split()
            resumed += bool(stream.resumed_s)
            resumed_s += stream.resumed_s[-1:]
            doubled += len(got) > len(wanted) or stream.done > 1 or len(stream.finishes) > 1
            lost += got != wanted and len(got) <= len(wanted)
            served += got == wanted and stream.done == 1 and stream.finishes == ["length"]
        print(
            f"round {number + 1}: {served} of {given.streams * (number + 1)} whole, {took_s:.1f} s from the kill to the end"
        )
    whole = given.streams * given.rounds
    result = {
        "streams": whole, "resumed": resumed, "served_whole": served, "lost_or_changed": lost, "doubled": doubled,
        "resumed_within_ms": {f"p{p}": round(1000 * percentile(resumed_s, p / 100), 1) for p in (50, 90, 99)},
    }  # fmt: skip
    print(result)
    write("resume", __doc__.splitlines()[0], result)
    assert served == whole, f"{whole - served} streams were not whole"


if __name__ == "__main__":
    main()
