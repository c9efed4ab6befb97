"""The way of a call with replicas that do as they are told, in virtual time."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from random import Random

import pytest

from cordee.domain.call import Call, Deadlines, Work
from cordee.domain.chunk import Finish
from cordee.domain.outcome import End, Outcome, Why
from cordee.domain.replica import Capacity, Continuation, ReplicaKind
from cordee.flow.answer import Answer, Counts
from cordee.flow.facts import CLOSING, GONE, Fact
from cordee.flow.mailbox import Mailbox
from cordee.flow.pool import Pool
from cordee.flow.serve import outcome, serve
from cordee.flow.trip import Trip
from cordee.flow.watch import Watch
from cordee.memory.clock import VirtualClock
from cordee.policy.after import AttemptRules
from cordee.policy.breaker import Breaker, BreakerRules
from cordee.policy.hedge import SEEN_MIN, Hedge, HedgeRules
from cordee.policy.replica import Replica
from cordee.policy.retry import RetryBudget, RetryRules
from cordee.policy.seats import SeatRules, Seats
from cordee.ports import Receiver
from tests.flow.doubles import Sink

LINK, HTTP = ReplicaKind.LINK, ReplicaKind.HTTP
Script = Callable[[Receiver], None]


class Handle:
    """What a replica is told of an attempt's end."""

    def __init__(self) -> None:
        self.end = ""

    def cancel(self) -> None:
        self.end = self.end or "cancelled"

    def detach(self) -> None:
        self.end = self.end or "detached"


class Scripted:
    """Port Upstream: each attempt does the next script, the last one again and again."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)
        self.handles: list[Handle] = []
        self.numbers: list[int] = []

    def start(
        self, call: Call, attempt: int, outputs: Sequence[array[int]], done: frozenset[int], remaining_s: float,
        receiver: Receiver, sent: Sequence[bytes] = (),
    ) -> Handle:  # fmt: skip
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        self.handles.append(Handle())
        self.numbers.append(attempt)
        script(receiver)
        return self.handles[-1]


class Scene:
    """A pool, and calls in it."""

    def __init__(self, rules: AttemptRules | None = None, wait_s_max: float = 30.0) -> None:
        self.clock = VirtualClock()
        seats = Seats("m", SeatRules(wait_s_max=wait_s_max))
        self.pool = Pool(seats, RetryBudget(RetryRules(), 0.0), rules or AttemptRules(), self.clock, Random(1))
        self.watch = Watch(self.clock, [self.pool])
        self.ended: list[Outcome] = []
        self.sink = Sink()
        self.answers: list[Answer] = []

    def replica(self, id: str, upstream: Scripted, kind: ReplicaKind = LINK, fingerprint: str = "f") -> Replica:
        replica = Replica(id, kind, Capacity(4, 4096), fingerprint, Breaker(BreakerRules()), exact=True)
        replica.ready = True
        self.pool.join(replica, upstream)
        return replica

    def call(self, *, own: bool = True, keep: bool = False, attach: str = "", total_s: float = 60.0) -> Mailbox[Fact]:
        call = Call(
            f"c{len(self.answers)}", "m", "t", "/v1/completions", True, self.clock.now(), key_id="key-1",
            deadlines=Deadlines(total_s, total_s, total_s), keep=keep, attach=attach,
            work=Work(array("I", [1, 2]), 3) if own else None, body=b"" if own else b"{}",
        )  # fmt: skip
        box: Mailbox[Fact] = Mailbox()
        answer = Answer(call, self.sink, box, self.clock, Counts())
        self.answers.append(answer)

        async def walk() -> None:
            trip = Trip()
            result = await serve(call, answer, self.pool, trip)
            self.watch.remove(answer)
            self.ended.append(outcome(call, answer, trip, result, self.clock.now()))

        self.watch.add(answer)
        box.run(walk())
        return box

    @property
    def seats_taken(self) -> int:
        return sum(replica.mine for replica in self.pool.seats.replicas)


def answers(receiver: Receiver) -> None:
    receiver.accepted()
    for index in range(3):
        receiver.token(0, index, index, None)
    receiver.finish(0, 3, Finish.LENGTH)


def passes_on(status: int) -> Script:
    def script(receiver: Receiver) -> None:
        receiver.head(status, ())
        receiver.body(b"{}")
        receiver.complete()

    return script


def silent(receiver: Receiver) -> None:
    receiver.accepted()


def busy_for(retry_after_s: float | None) -> Script:
    return lambda receiver: receiver.busy(retry_after_s)


def breaks(*, ran: bool = True, fault: bool = False) -> Script:
    return lambda receiver: receiver.broken("broke", ran=ran, fault=fault)


@pytest.mark.parametrize("fact", [GONE, CLOSING])
@pytest.mark.parametrize(("keep", "end"), [(True, "detached"), (False, "cancelled")])
def test_a_kept_call_is_left_running_and_any_other_is_cancelled(fact: Fact, keep: bool, end: str) -> None:
    scene, worker = Scene(), Scripted(silent)
    scene.replica("w", worker)
    scene.call(keep=keep).post(fact)
    assert [handle.end for handle in worker.handles] == [end]
    assert scene.seats_taken == 0
    assert scene.ended[0].end is (End.ABANDONED if fact is GONE else End.FAILED)


def test_an_answer_is_asked_for_where_it_is_kept_and_made_anew_elsewhere_if_it_is_not() -> None:
    scene, keeper, other = Scene(), Scripted(breaks(ran=False)), Scripted(answers)
    kept_at = scene.replica("keeper", keeper)
    scene.replica("other", other)
    scene.call(attach="keeper", keep=True)
    assert (keeper.numbers, len(other.numbers)) == ([1], 1)
    assert other.numbers[0] > 1, "no later attempt is taken for the first one"
    assert scene.ended[0].end is End.SERVED
    assert kept_at.breaker.is_closed


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422])
def test_what_is_the_callers_fault_is_not_tried_again_and_comes_through(status: int) -> None:
    scene, first, second = Scene(), Scripted(passes_on(status)), Scripted(passes_on(200))
    replica = scene.replica("a", first, HTTP, "")
    scene.call(own=False)
    scene.replica("b", second, HTTP, "")
    assert (scene.sink.status, len(first.numbers), len(second.numbers)) == (status, 1, 0)
    assert (scene.ended[0].end, replica.breaker.is_closed) == (End.SERVED, True)


def test_a_server_that_will_not_do_one_call_is_asked_by_others_at_once() -> None:
    scene, picky, other = Scene(), Scripted(busy_for(0.0), passes_on(200)), Scripted(passes_on(200))
    replica = scene.replica("picky", picky, HTTP, "")
    scene.call(own=False)
    scene.replica("other", other, HTTP, "")
    assert replica.rests_until_s <= scene.clock.now()
    assert scene.ended[0].end is End.SERVED


def test_work_that_no_worker_can_do_is_given_to_one_only() -> None:
    scene, worker = Scene(), Scripted(breaks(ran=False, fault=True))
    scene.replica("w", worker)
    scene.replica("v", worker)
    scene.call()
    assert (len(worker.numbers), scene.ended[0].why) == (1, Why.UNFIT)


def test_a_server_that_asks_for_time_is_left_alone_by_all_calls_and_the_call_goes_elsewhere_at_once() -> None:
    scene, tired, other = Scene(), Scripted(busy_for(5.0), passes_on(200)), Scripted(passes_on(200))
    scene.replica("tired", tired, HTTP, "")
    scene.call(own=False)
    scene.replica("other", other, HTTP, "")
    scene.clock.run(until_s=0.1)
    assert scene.ended[0].end is End.SERVED
    assert scene.ended[0].replicas == ("tired", "other")
    for _ in range(10):
        scene.call(own=False)
    assert (len(tired.numbers), len(other.numbers)) == (1, 11)


def test_a_call_waits_for_a_server_that_asks_for_time_when_there_is_no_other() -> None:
    scene, tired = Scene(), Scripted(busy_for(5.0), passes_on(200))
    scene.replica("tired", tired, HTTP, "")
    scene.call(own=False)
    scene.clock.run(until_s=4.9)
    assert scene.ended == []
    scene.clock.run(until_s=5.1)
    assert scene.ended[0].end is End.SERVED


def test_who_cannot_wait_so_long_is_refused_at_once_and_told_when_to_come_back() -> None:
    scene = Scene(wait_s_max=3.0)
    scene.replica("tired", Scripted(busy_for(5.0)), HTTP, "")
    scene.call(own=False)
    scene.call(own=False)
    assert [(one.end, one.why) for one in scene.ended] == [(End.REFUSED, Why.NO_REPLICA)] * 2
    assert scene.seats_taken == 0


def test_an_absurd_retry_after_is_bounded() -> None:
    scene = Scene(AttemptRules(rest_s_max=10.0))
    tired = scene.replica("tired", Scripted(busy_for(1e9)), HTTP, "")
    scene.call(own=False)
    assert tired.rests_until_s == 10.0


def test_a_silent_route_is_left_and_not_tried_again_for_that_call() -> None:
    scene, mute, other = Scene(AttemptRules(first_token_s=2.0)), Scripted(silent), Scripted(breaks(), breaks(), answers)
    scene.replica("mute", mute)
    scene.call()
    scene.replica("other", other)
    scene.clock.run(until_s=30.0)
    assert (len(mute.numbers), len(other.numbers)) == (1, 3)
    assert scene.ended[0].end is End.SERVED
    assert mute.handles[0].end == "cancelled"


def test_a_stream_that_stalls_goes_on_elsewhere_from_where_it_was() -> None:
    def stalls(receiver: Receiver) -> None:
        receiver.token(0, 0, 0, None)

    def goes_on(receiver: Receiver) -> None:
        for index in range(1, 3):
            receiver.token(0, index, index, None)
        receiver.finish(0, 3, Finish.LENGTH)

    scene = Scene(AttemptRules(first_token_s=5.0, between_tokens_s=2.0))
    scene.replica("stalls", Scripted(stalls))
    scene.call()
    scene.replica("other", Scripted(goes_on))
    scene.clock.run(until_s=10.0)
    assert scene.sink.tokens == {0: [0, 1, 2]}
    ended = scene.ended[0]
    assert (ended.end, ended.continuation, ended.continued, ended.key_id) == (End.SERVED, "exact", 1, "key-1")


def test_the_record_says_how_an_answer_really_went_on() -> None:
    def breaks_off(receiver: Receiver) -> None:
        receiver.token(0, 0, 0, None)
        receiver.broken("it broke off", ran=True)

    def goes_on_by_text(receiver: Receiver) -> None:
        receiver.continued(Continuation.TEXT)
        receiver.token(0, 1, 1, None)
        receiver.finish(0, 2, Finish.LENGTH)

    scene = Scene(AttemptRules())
    scene.replica("server", Scripted(breaks_off, goes_on_by_text))
    scene.call()
    scene.clock.run(until_s=10.0)
    assert (scene.ended[0].end, scene.ended[0].continuation, scene.ended[0].continued) == (End.SERVED, "text", 1)


def test_when_every_route_was_silent_the_call_ends() -> None:
    scene, mute = Scene(AttemptRules(first_token_s=2.0)), Scripted(silent)
    scene.replica("a", mute)
    scene.replica("b", mute)
    scene.call()
    scene.clock.run(until_s=30.0)
    assert (len(mute.numbers), scene.ended[0].why) == (2, Why.ATTEMPTS)


def test_to_be_refused_before_work_costs_no_attempt() -> None:
    scene, worker = (
        Scene(AttemptRules(continuations_max=2)),
        Scripted(*[busy_for(None)] * 6, breaks(), breaks(), answers),
    )
    scene.replica("w", worker)
    scene.call()
    scene.clock.run(until_s=5.0)
    assert (scene.ended[0].end, len(worker.numbers)) == (End.SERVED, 9)


def test_in_a_storm_of_failures_attempts_stay_near_the_number_of_calls() -> None:
    scene, server = Scene(), Scripted(breaks())
    scene.replica("s", server, HTTP, "")
    calls = 8_000

    def one() -> None:
        scene.call(own=False)

    for number in range(calls):
        scene.clock.call_later(number / 1000, one)
    scene.clock.run(until_s=calls / 1000 + 61)
    assert len(scene.ended) == calls
    assert len(server.numbers) <= 1.1 * calls + 100  # the floor's savings, once


def hedged(share: float = 0.1) -> Scene:
    scene = Scene()
    scene.pool.hedge = Hedge(HedgeRules(enabled=True, share=share))
    for _ in range(SEEN_MIN):
        scene.pool.hedge.note(0.1)
    return scene


def test_a_late_first_token_is_asked_for_elsewhere_and_the_loser_gives_its_seat_back_at_once() -> None:
    scene, slow, quick = hedged(), Scripted(silent), Scripted(answers)
    scene.replica("slow", slow)
    scene.call()
    scene.replica("quick", quick)
    scene.clock.run(until_s=0.09)
    assert quick.numbers == []
    scene.clock.run(until_s=0.11)
    assert (scene.sink.tokens, slow.handles[0].end) == ({0: [0, 1, 2]}, "cancelled")
    assert scene.seats_taken == 0
    assert (scene.ended[0].replica, scene.ended[0].attempts, scene.ended[0].continued) == ("quick", 2, 0)


def test_a_first_attempt_that_answers_after_all_wins_and_the_second_is_cancelled() -> None:
    receivers: list[Receiver] = []
    scene, rival = hedged(), Scripted(silent)
    scene.replica("first", Scripted(receivers.append))
    scene.call()
    scene.replica("rival", rival)
    scene.clock.run(until_s=0.2)
    receivers[0].token(0, 0, 7, None)
    assert (rival.handles[0].end, scene.seats_taken) == ("cancelled", 1)
    receivers[0].finish(0, 1, Finish.STOP)
    assert (scene.sink.tokens, scene.seats_taken) == ({0: [7]}, 0)


def test_when_the_first_attempt_breaks_the_second_one_is_the_attempt() -> None:
    receivers: list[Receiver] = []
    rivals: list[Receiver] = []
    scene = hedged()
    scene.replica("first", Scripted(receivers.append))
    scene.call()
    scene.replica("rival", Scripted(rivals.append))
    scene.clock.run(until_s=0.2)
    receivers[0].broken("broke", ran=True)
    assert scene.seats_taken == 1
    answers(rivals[0])
    assert (scene.ended[0].end, scene.ended[0].replica, scene.seats_taken) == (End.SERVED, "rival", 0)


@pytest.mark.parametrize("fact", [GONE, CLOSING])
def test_a_client_that_leaves_ends_both_attempts(fact: Fact) -> None:
    scene, both = hedged(), Scripted(silent)
    scene.replica("a", both)
    scene.replica("b", both)
    box = scene.call()
    scene.clock.run(until_s=0.2)
    assert scene.seats_taken == 2
    box.post(fact)
    assert ([handle.end for handle in both.handles], scene.seats_taken) == (["cancelled", "cancelled"], 0)


def test_only_equal_replicas_are_asked_a_second_time() -> None:
    scene, other = hedged(), Scripted(answers)
    scene.replica("slow", Scripted(silent))
    scene.call()
    scene.replica("other", other, fingerprint="g")
    scene.clock.run(until_s=1.0)
    assert (other.numbers, scene.seats_taken) == ([], 1)
