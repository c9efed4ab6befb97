from __future__ import annotations

import asyncio

import msgspec
import pytest

from cordee.domain.call import Task
from cordee.domain.chunk import Finish
from cordee.domain.replica import Load
from cordee.engine.connection import Connection
from cordee.engine.job import Emission, emission
from cordee.engine.server import LinkServer, ServerRules
from cordee.link import frames
from tests.engine.doubles import CARD, ManualClock, RecordingEngine, RecordingTransport, as_transport, submit

BEAT_S, IDLE_S = 0.025, 1.0
HELLO = frames.hello(frames.GatewayHello(protocol=frames.PROTOCOL, gateway="g", pid=1))


class Bench:
    def __init__(self, slots: int = 2, waiting: int = 2, refused: str | None = None) -> None:
        self.clock = ManualClock()
        self.engine = RecordingEngine(slots)
        self.server = LinkServer(self.engine, ServerRules("w", waiting, BEAT_S, IDLE_S), self.clock, lambda _: refused)

    def connect(self, greet: bool = True) -> tuple[Connection, RecordingTransport]:
        connection, transport = self.server.protocol(), RecordingTransport()
        connection.connection_made(as_transport(transport))
        if greet:
            connection.data_received(HELLO)
            transport.take()
        return connection, transport


def kinds(transport: RecordingTransport) -> list[int]:
    return [kind for kind, _ in transport.take()]


def token(connection: Connection, handle: int = 1, choice: int = 0, index: int = 0, finish: int = 0) -> Emission:
    return emission([(connection.number, handle, choice, finish, index, 5)])


def test_a_worker_introduces_itself_first():
    _, transport = Bench().connect(greet=False)
    ((kind, payload),) = transport.take()
    hello = frames.read_worker_hello(payload)
    assert kind == frames.HELLO
    assert (hello.worker, hello.model, hello.fingerprint, hello.context) == ("w", CARD.name, CARD.fingerprint, 64)
    assert (hello.capacity_sequences, hello.capacity_tokens, hello.beat_s) == (2, 128, BEAT_S)


def test_a_peer_that_is_not_admitted_learns_nothing():
    bench = Bench(refused="somebody else")
    connection, transport = bench.connect(greet=False)
    assert transport.frames == []
    assert transport.aborted
    connection.data_received(HELLO)


def test_a_submit_is_acknowledged_before_the_engine_does_anything():
    bench = Bench()
    connection, transport = bench.connect()
    connection.data_received(frames.submit(1, submit()))
    assert transport.take() == [(frames.ACK, (1).to_bytes(4, "little"))]
    assert [job.name for job in bench.engine.jobs] == [(connection.number, 1)]


def test_bad_work_is_refused_for_good_and_too_much_only_here():
    bench = Bench(slots=2, waiting=1)
    connection, transport = bench.connect()
    connection.data_received(frames.submit(1, submit(prompt=[1] * 64)))
    connection.data_received(frames.submit(2, submit(outputs=((), (), ()))))
    connection.data_received(frames.submit(3, submit()))
    connection.data_received(frames.submit(4, submit(attempt=2, outputs=((), ()))))
    connection.data_received(frames.submit(5, submit(attempt=2)))
    sent = transport.take()
    assert [kind for kind, _ in sent] == [frames.REFUSE, frames.ACK, frames.REFUSE, frames.ACK, frames.REFUSE]
    assert [frames.read_refuse(sent[i][1]).busy for i in (0, 2, 4)] == [False, True, True]
    assert [job.name[1] for job in bench.engine.jobs] == [2, 4]


def test_a_step_carries_the_rows_of_one_gateway_and_its_load():
    bench = Bench()
    (one, first), (two, second) = bench.connect(), bench.connect()
    one.data_received(frames.submit(1, submit()))
    two.data_received(frames.submit(1, submit(outputs=((), ()))))
    first.take(), second.take()
    bench.server.deliver(emission([(one.number, 1, 0, 0, 0, 5), (two.number, 1, 1, 0, 0, 6)]))
    ((kind, payload),) = first.take()
    assert kind == frames.STEP
    assert list(frames.read_rows(payload)) == [(1, 0, 0, 0, 5)]
    assert frames.read_load(payload) == Load(running=2, waiting=1, tokens=21, seen=1)
    ((_, payload),) = second.take()
    assert list(frames.read_rows(payload)) == [(1, 1, 0, 0, 6)]


def test_log_probabilities_come_before_their_step():
    bench = Bench()
    connection, transport = bench.connect()
    connection.data_received(frames.submit(1, submit()))
    transport.take()
    report = (1, 0, 0, -0.5, [(5, -0.5)])
    bench.server.deliver(emission([(connection.number, 1, 0, 0, 0, 5)], [(connection.number, report)]))
    (kind, payload), (step, _) = transport.take()
    assert (kind, step) == (frames.LOGPROBS, frames.STEP)
    assert frames.read_logprobs(payload) == [report]


def test_load_falls_with_every_choice_that_ends():
    bench = Bench()
    connection, _ = bench.connect()
    connection.data_received(frames.submit(1, submit(outputs=((), ()))))
    assert bench.server.load() == Load(running=2, waiting=0, tokens=14, seen=0)
    bench.server.deliver(token(connection, choice=0, finish=Finish.STOP))
    assert bench.server.load() == Load(running=1, waiting=0, tokens=7, seen=0)
    bench.server.deliver(token(connection, choice=1, finish=Finish.LENGTH))
    assert bench.server.load() == Load()
    assert connection.open == {}


def test_nothing_is_sent_for_a_cancelled_handle():
    bench = Bench()
    connection, transport = bench.connect()
    connection.data_received(frames.submit(1, submit()) + frames.submit(2, submit()))
    transport.take()
    connection.data_received(frames.cancel(1) + frames.cancel(1) + frames.cancel(99))
    assert bench.engine.cancelled == [(connection.number, 1)]
    bench.server.deliver(token(connection, handle=1))
    assert transport.frames == []
    bench.server.deliver(emission([(connection.number, 1, 0, 0, 1, 5), (connection.number, 2, 0, 0, 0, 6)]))
    ((_, payload),) = transport.take()
    assert list(frames.read_rows(payload)) == [(2, 0, 0, 0, 6)]
    bench.server.deliver(emission([], cancelled=[(connection.number, 1)]))
    assert connection.cancelled == set()
    assert bench.server.load().running == 1


def test_a_connection_that_is_lost_takes_its_attempts_along():
    bench = Bench()
    connection, _ = bench.connect()
    connection.data_received(frames.submit(1, submit()) + frames.submit(2, submit()))
    connection.connection_lost(None)
    assert bench.engine.cancelled == [(connection.number, 1), (connection.number, 2)]
    assert bench.server.load() == Load()
    bench.server.deliver(token(connection))
    assert bench.clock.armed == 0


def test_a_failed_choice_ends_its_attempt_with_the_reason():
    bench = Bench()
    connection, transport = bench.connect()
    connection.data_received(frames.submit(1, submit(outputs=((), ()))))
    transport.take()
    failed = emission([(connection.number, 1, 0, Finish.FAILED, 3, 0)], failures=[((connection.number, 1), "why")])
    bench.server.deliver(failed)
    ((kind, payload),) = transport.take()
    assert kind == frames.REFUSE
    assert frames.read_refuse(payload).message == "why"
    assert bench.server.load() == Load()


def test_what_a_client_asked_for_in_vain_is_no_error_of_ours(caplog: pytest.LogCaptureFixture):
    bench = Bench()
    connection, _ = bench.connect()
    connection.data_received(frames.submit(1, submit()))
    bench.server.deliver(emission((), failures=[((connection.number, 1), "its grammar is too costly")]))
    (said,) = caplog.records
    assert said.levelname == "WARNING"
    assert said.getMessage() == f"an attempt of call {submit().call} failed: its grammar is too costly"


def test_the_reason_of_a_failure_goes_before_the_tokens_of_others():
    bench = Bench()
    connection, transport = bench.connect()
    connection.data_received(frames.submit(1, submit()) + frames.submit(2, submit()))
    transport.take()
    rows = [(connection.number, 1, 0, Finish.FAILED, 3, 0), (connection.number, 2, 0, 0, 0, 7)]
    bench.server.deliver(emission(rows, failures=[((connection.number, 1), "why")]))
    (refusal, _), (step, payload) = transport.take()
    assert (refusal, step) == (frames.REFUSE, frames.STEP)
    assert [row[0] for row in frames.read_rows(payload)] == [2]


def test_the_heart_beats_fast_while_something_is_open_and_slowly_else():
    bench = Bench()
    connection, transport = bench.connect()
    bench.clock.advance(IDLE_S * 2)
    assert kinds(transport) == [frames.BEAT] * 2
    connection.data_received(frames.submit(1, submit()))
    assert kinds(transport) == [frames.ACK]
    bench.clock.advance(4.5 * BEAT_S)
    assert kinds(transport) == [frames.BEAT] * 4
    bench.server.deliver(token(connection, finish=Finish.STOP))
    transport.take()
    bench.clock.advance(0.9)
    assert len(kinds(transport)) <= 1


def test_a_step_is_a_beat():
    bench = Bench()
    connection, transport = bench.connect()
    connection.data_received(frames.submit(1, submit()))
    for index in range(10):
        bench.clock.advance(BEAT_S * 0.8)
        bench.server.deliver(token(connection, index=index))
    assert frames.BEAT not in kinds(transport)


@pytest.mark.parametrize(
    "data",
    [
        frames.submit(1, submit()),
        frames.hello(frames.GatewayHello(protocol=99, gateway="g", pid=1)),
        HELLO + frames.frame(frames.SUBMIT, b"\x01\x00\x00\x00\xc1"),
        HELLO + frames.frame(frames.CANCEL, b"1"),
        HELLO + frames.drain(),
        HELLO + HELLO,
        HELLO + frames.submit(1, submit()) + frames.submit(1, submit()),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_no_gateway_sends_closes_its_connection_alone(data: bytes):
    bench = Bench()
    _, other = bench.connect()
    connection, transport = bench.connect(greet=False)
    connection.data_received(data)
    assert transport.aborted
    assert bench.server.load() == Load()
    assert not other.aborted


def test_a_gateway_that_does_not_read_is_let_go():
    bench = Bench()
    connection, transport = bench.connect()
    connection.data_received(frames.submit(1, submit()))
    connection.pause_writing()
    assert transport.aborted
    assert bench.engine.cancelled == [(connection.number, 1)]


def test_draining_says_so_refuses_what_is_new_and_ends_what_runs():
    async def scenario() -> None:
        bench = Bench()
        connection, transport = bench.connect()
        connection.data_received(frames.submit(1, submit()))
        transport.take()
        bench.server.drain()
        assert kinds(transport) == [frames.DRAIN]
        connection.data_received(frames.submit(2, submit()))
        ((kind, payload),) = transport.take()
        assert kind == frames.REFUSE
        assert frames.read_refuse(payload).busy
        _, late = bench.connect(greet=False)
        assert kinds(late) == [frames.HELLO, frames.DRAIN]
        waiting = asyncio.ensure_future(bench.server.wait_empty())
        await asyncio.sleep(0)
        assert not waiting.done()
        bench.server.deliver(token(connection, finish=Finish.STOP))
        await waiting

    asyncio.run(scenario())


def test_results_and_what_was_cached_come_before_the_rows_that_end_them():
    bench = Bench()
    connection, transport = bench.connect()
    connection.data_received(frames.submit(1, submit()))
    other, elsewhere = bench.connect()
    transport.take()
    name = (connection.number, 1)
    rows = [(connection.number, 1, 0, int(Finish.STOP), 0, 0)]
    bench.server.deliver(emission(rows, cached=[(name, 7), ((other.number, 1), 9)], results=[(name, 0, b"1234")]))
    sent = transport.take()
    assert [kind for kind, _ in sent] == [frames.CACHED, frames.RESULT, frames.STEP]
    assert list(frames.read_cached(sent[0][1])) == [(1, 7)]
    assert frames.read_result(sent[1][1]) == (1, 0, b"1234")
    assert [kind for kind, _ in elsewhere.take()] == [frames.CACHED]


def test_items_of_a_task_are_read_and_bad_ones_refused():
    bench = Bench()
    connection, transport = bench.connect()
    item = (b"\x01\0\0\0\x02\0\0\0", 1)
    good = msgspec.structs.replace(submit(prompt=[]), task="score", items=[item], choices=[0], outputs=[b""])
    bad = [
        msgspec.structs.replace(good, task="guess"),
        msgspec.structs.replace(good, task="generate"),
        msgspec.structs.replace(good, items=[]),
        msgspec.structs.replace(good, items=[(b"", 0)]),
        msgspec.structs.replace(good, items=[(item[0], 3)]),
        msgspec.structs.replace(good, choices=[1]),
        msgspec.structs.replace(submit(), grammar=("runes", "x")),
    ]
    for handle, one in enumerate([good, *bad], 1):
        connection.data_received(frames.submit(handle, one))
    (job,) = bench.engine.jobs
    assert (job.task, [list(one.tokens) for one in job.items], job.items[0].start) == (Task.SCORE, [[1, 2]], 1)
    assert kinds(transport) == [frames.ACK, *[frames.REFUSE] * len(bad)]
