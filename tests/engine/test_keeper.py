"""Kept answers as gateways see them: over connections that break, and at their pace."""

from __future__ import annotations

import asyncio

from cordee.domain.chunk import Finish
from cordee.domain.replica import Load, Signals
from cordee.engine.connection import Connection
from cordee.engine.job import emission
from cordee.engine.keep import KEEPER, KeepRules
from cordee.engine.keeper import PART_ROWS, PAUSE_S, UNSENT_BYTES_MAX
from cordee.engine.server import LinkServer, ServerRules
from cordee.link import frames
from tests.engine.doubles import ManualClock, RecordingEngine, RecordingTransport, as_transport, submit

HELLO = frames.hello(frames.GatewayHello(protocol=frames.PROTOCOL, gateway="g", pid=1))
KEEP = submit(keep="c", tenant="t")
ATTACH = frames.Attach(call="c", tenant="t", choices=1)


class Bench:
    def __init__(self, keep: KeepRules | None = None) -> None:
        self.clock = ManualClock()
        self.engine = RecordingEngine(2)
        rules = ServerRules("w", 2, 0.025, 1.0, keep or KeepRules())
        self.server = LinkServer(self.engine, rules, self.clock, lambda _: None, lambda: Signals(50, 60))

    def connect(self) -> tuple[Connection, RecordingTransport]:
        connection, transport = self.server.protocol(), RecordingTransport()
        connection.connection_made(as_transport(transport))
        connection.data_received(HELLO)
        transport.take()
        return connection, transport

    def say(self, *ids: int, start: int = 0, end: Finish | None = None) -> None:
        """The engine says more of the first kept answer."""
        number, handle = self.engine.jobs[0].name
        rows = [(number, handle, 0, 0, start + i, token) for i, token in enumerate(ids)]
        if end is not None:
            rows.append((number, handle, 0, int(end), start + len(ids), 0))
        self.server.deliver(emission(rows))


def told(transport: RecordingTransport) -> list[tuple[int, int, int, int, int]]:
    return [
        row for kind, payload in transport.take() if kind == frames.STEP for row in frames.read_rows(payload)
    ]  # fmt: skip


def test_a_kept_answer_goes_on_when_its_connection_breaks_and_is_told_to_whoever_comes_back():
    bench = Bench()
    first, transport = bench.connect()
    first.data_received(frames.submit(1, KEEP))
    assert bench.engine.jobs[0].name[0] == KEEPER
    bench.say(11, 12)
    assert told(transport) == [(1, 0, 0, 0, 11), (1, 0, 0, 1, 12)]
    first.connection_lost(None)
    assert bench.engine.cancelled == []
    bench.say(13, start=2)
    second, transport = bench.connect()
    second.data_received(frames.attach(5, ATTACH))
    assert [kind for kind, _ in transport.frames] == [frames.ACK, frames.STEP]
    assert told(transport) == [(5, 0, 0, 0, 11), (5, 0, 0, 1, 12), (5, 0, 0, 2, 13)]
    bench.say(14, start=3, end=Finish.LENGTH)
    assert told(transport) == [(5, 0, 0, 3, 14), (5, 0, Finish.LENGTH, 4, 0)]
    assert second.open == {}


def test_the_load_counts_a_kept_answer_once_however_many_listen():
    bench = Bench()
    first, _ = bench.connect()
    second, _ = bench.connect()
    first.data_received(frames.submit(1, KEEP))
    second.data_received(frames.attach(1, ATTACH))
    host = {"cpu": 50, "memory": 60}
    assert bench.server.load() == Load(running=1, tokens=7, **host)
    first.connection_lost(None)
    second.connection_lost(None)
    assert bench.server.load() == Load(running=1, tokens=7, **host)
    bench.say(1, end=Finish.STOP)
    assert bench.server.load() == Load(**host)


def test_an_attach_counts_as_seen_whether_it_finds_something_or_not():
    bench = Bench()
    connection, transport = bench.connect()
    connection.data_received(frames.submit(1, KEEP) + frames.attach(2, ATTACH))
    connection.data_received(frames.attach(3, frames.Attach(call="c", tenant="other", choices=1)))
    assert connection.seen == 3
    kind, payload = transport.take()[-1]
    assert kind == frames.REFUSE
    refusal = frames.read_refuse(payload)
    assert (refusal.busy, refusal.gone) == (False, True)


def test_detach_lets_a_kept_answer_go_on_and_ends_another():
    bench = Bench()
    connection, transport = bench.connect()
    connection.data_received(frames.submit(1, KEEP) + frames.submit(2, submit()))
    transport.take()
    connection.data_received(frames.detach(1) + frames.detach(2) + frames.detach(2) + frames.detach(99))
    assert bench.engine.cancelled == [(connection.number, 2)]
    bench.say(1)
    assert transport.frames == []
    assert bench.server.load().running == 1


def test_the_grace_is_over_by_the_clock():
    bench = Bench(KeepRules(grace_s=3.0, keep_s=100.0))
    connection, _ = bench.connect()
    connection.data_received(frames.submit(1, KEEP))
    name = bench.engine.jobs[0].name
    connection.data_received(frames.detach(1))
    bench.clock.advance(2.9)
    assert bench.engine.cancelled == []
    bench.clock.advance(0.2)
    assert bench.engine.cancelled == [name]
    assert bench.server.load().running == 0


def test_a_later_end_does_not_hold_up_an_earlier_one():
    bench = Bench(KeepRules(grace_s=3.0, keep_s=100.0))
    connection, _ = bench.connect()
    connection.data_received(frames.submit(1, KEEP))
    bench.say(1, end=Finish.STOP)
    connection.data_received(frames.submit(2, submit(keep="d", tenant="t")) + frames.detach(2))
    bench.clock.advance(3.1)
    assert bench.engine.cancelled == [bench.engine.jobs[1].name]
    connection.data_received(frames.attach(3, ATTACH))
    assert connection.open == {}, "the complete answer was told in one part"


def test_a_long_answer_is_told_in_parts_as_the_gateway_reads_them():
    bench = Bench()
    bench.engine.card = bench.engine.card.__class__("m", "f", context=1 << 20, vocabulary=32, exact=True)
    connection, _ = bench.connect()
    connection.data_received(frames.submit(1, submit(keep="c", tenant="t", max_tokens=1 << 19)))
    count = 2 * PART_ROWS + 5
    bench.say(*([3] * count))
    late, transport = bench.connect()
    transport.unread = UNSENT_BYTES_MAX + 1
    late.data_received(frames.attach(1, ATTACH))
    assert [kind for kind, _ in transport.take()] == [frames.ACK]
    bench.clock.advance(0.01)
    assert told(transport) == []
    transport.unread = 0
    bench.say(4, start=count)
    first: list[tuple[int, int, int, int, int]] = []
    while not first:
        bench.clock.advance(PAUSE_S / 4)
        first = told(transport)
    assert len(first) == PART_ROWS
    bench.say(4, start=count + 1)
    bench.clock.advance(0.01)
    rows = told(transport)
    assert [row[3] for row in rows] == list(range(PART_ROWS, count + 2))
    bench.say(4, start=count + 2)
    assert [row[3] for row in told(transport)] == [count + 2]


def test_a_drain_does_not_wait_for_answers_that_nobody_listens_to():
    async def scenario() -> None:
        bench = Bench()
        connection, _ = bench.connect()
        connection.data_received(frames.submit(1, KEEP))
        waiting = asyncio.ensure_future(bench.server.wait_empty())
        await asyncio.sleep(0)
        assert not waiting.done()
        connection.data_received(frames.detach(1))
        await waiting

    asyncio.run(scenario())


def test_failures_of_kept_answers_reach_every_listener():
    bench = Bench()
    first, _ = bench.connect()
    second, transport = bench.connect()
    first.data_received(frames.submit(1, KEEP))
    second.data_received(frames.attach(1, ATTACH))
    transport.take()
    name = bench.engine.jobs[0].name
    bench.server.deliver(emission([(*name, 0, int(Finish.FAILED), 0, 0)], failures=[(name, "why")]))
    ((kind, payload),) = transport.take()
    assert kind == frames.REFUSE
    assert frames.read_refuse(payload).message == "why"
    assert (first.open, second.open, bench.server.load().running) == ({}, {}, 0)


def test_calls_that_are_not_kept_leave_no_trace_with_the_keeper():
    bench = Bench()
    connection, transport = bench.connect()
    connection.data_received(frames.submit(1, submit()))
    assert bench.engine.jobs[0].name == (connection.number, 1)
    bench.say(9)
    assert told(transport) == [(1, 0, 0, 0, 9)]
    connection.data_received(frames.attach(2, ATTACH))
    assert transport.take()[0][0] == frames.REFUSE
