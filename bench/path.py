"""What a forwarded request costs in this process alone: the whole path from bytes in to bytes out, with the sockets taken away.

    .venv/bin/python bench/path.py [--profile] [--requests N]

Question: where do the microseconds of a request go? Kernel time is not in it; bench/peers measures that with real sockets.
Two figures: one request at a time, when all that it needs lies in the processor's caches, and sixty-four in flight, as under
load. Receipts are kept as a gateway keeps them, and objects are collected as rarely.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import pstats
import time
from pathlib import Path
from random import Random

import uvloop

from cordee.adapters.clock import LoopClock
from cordee.adapters.upstreams import openai
from cordee.adapters.upstreams.endpoint import Endpoint
from cordee.compose.gateway import COLLECT_RARELY
from cordee.domain.call import Deadlines
from cordee.domain.caller import INFERENCE, Caller
from cordee.flow.answer import Counts
from cordee.flow.watch import Watch
from cordee.gateway.calls import Calls
from cordee.gateway.front import Front
from cordee.gateway.kept.journals import Journals
from cordee.gateway.kept.receipts import Receipts
from cordee.gateway.metrics import Metrics
from cordee.gateway.roster import PoolRules, Roster
from cordee.gateway.walk import Walks
from cordee.http import client
from cordee.http.connection import Connection
from cordee.http.request import Limits
from cordee.http.server import Server
from cordee.memory.journal import MemoryJournal
from cordee.policy.after import AttemptRules
from cordee.policy.breaker import BreakerRules
from cordee.policy.retry import RetryRules
from cordee.policy.seats import SeatRules

HERE = Path(__file__).parent
IN_FLIGHT = 64
RECEIPTS = 4096  # the default of receipts.calls_max
SLICES = 40  # the quickest of so many is least disturbed by whatever else the machine does
ANSWER = b'{"id":"x","object":"chat.completion","created":1,"model":"mock-model","choices":[]}' + b" " * 400


class Transport:
    """A socket that takes everything and sends nothing."""

    def __init__(self) -> None:
        self.written = 0
        self.on_write = lambda data: None

    def write(self, data: bytes) -> None:
        self.written += 1
        self.on_write(data)

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


class Keys:
    """One key, looked up the way the real directory does."""

    def __init__(self) -> None:
        from cordee.adapters.keyring import digest

        self.digest = digest
        self.callers = {digest(b"sk-bench"): Caller("bench", "bench", frozenset({INFERENCE}))}

    def holder(self, key_id: str) -> tuple[Caller, str] | None:
        return None

    def identify(self, key: bytes) -> Caller | None:
        return self.callers.get(self.digest(key))


async def run(requests: int, profile: bool) -> None:
    loop = asyncio.get_running_loop()
    clock, rng, counts = LoopClock(loop), Random(1), Counts()
    roster = Roster(PoolRules(SeatRules(), AttemptRules(), RetryRules(), BreakerRules(), 65536), clock, rng)
    watch = Watch(clock, roster.pools.values())
    metrics = Metrics(roster, watch, counts)
    walks = Walks(watch, metrics, counts, clock)
    front = Front(roster, Keys(), Calls(roster, walks, metrics, clock, rng, Deadlines()), walks, metrics)
    walks.receipts = Receipts(watch, Journals(MemoryJournal(clock.now, 1, 1), None), RECEIPTS, 60.0, 1.0)
    server = Server(front, Limits())
    pending: list[client.Connection] = []
    for port in (1, 2):
        upstream = openai.Server(Endpoint(f"http://127.0.0.1:{port}"))
        for _ in range(IN_FLIGHT):
            transport = Transport()
            connection = client.Connection(upstream.endpoint._connections)
            connection.connection_made(transport)  # type: ignore[arg-type]
            transport.on_write = lambda data, connection=connection: pending.append(connection)
            upstream.endpoint._connections.keep(connection)
        roster.serves(upstream.id, ["mock-model"], upstream, roster.breaker())
    out = Transport()
    clients = [Connection(server) for _ in range(IN_FLIGHT)]
    for one in clients:
        one.connection_made(out)  # type: ignore[arg-type]
    body = (HERE / "peers" / "body.json").read_bytes()
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:9200\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer sk-bench\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    response = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        len(ANSWER),
        ANSWER,
    )

    def many(count: int, at_once: int = 1) -> float:
        started = time.process_time()
        for _ in range(count // at_once):
            server.turn.begun = 0  # no loop turns here
            for one in clients[:at_once]:
                one.data_received(bytes(bytearray(request)))  # as from a socket: no two requests are one object
            while pending:
                pending.pop().data_received(bytes(bytearray(response)))
        return (time.process_time() - started) / (count // at_once * at_once) * 1e6

    many(2 * RECEIPTS)
    assert out.written == 2 * RECEIPTS, "an answer is missing"
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_RARELY)
    for at_once in (1, IN_FLIGHT):
        best = min(many(requests // SLICES, at_once) for _ in range(SLICES))
        print(f"{best:.2f} µs of user time per request, {at_once} in flight (best of {SLICES})")
    if profile:
        profiler = cProfile.Profile()
        profiler.enable()
        many(20_000)
        profiler.disable()
        pstats.Stats(profiler).sort_stats("tottime").print_stats(45)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--requests", type=int, default=50_000)
    args = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(args.requests, args.profile))


if __name__ == "__main__":
    main()
