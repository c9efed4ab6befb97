"""What happens to calls while something is in quarantine."""

from __future__ import annotations

from array import array
from random import Random

from cordee.domain.call import Call, Work
from cordee.domain.chunk import Finish
from cordee.domain.outcome import Refusal, Why
from cordee.domain.replica import Capacity, ReplicaKind
from cordee.flow.answer import Answer, Counts
from cordee.flow.facts import GONE, Fact
from cordee.flow.guard import guarded
from cordee.flow.mailbox import Mailbox
from cordee.flow.pool import Pool
from cordee.flow.serve import Abandoned, Result, Served
from cordee.flow.trip import Trip
from cordee.flow.ward import Ward
from cordee.memory.clock import VirtualClock
from cordee.policy.after import AttemptRules
from cordee.policy.breaker import Breaker, BreakerRules
from cordee.policy.quarantine import Quarantine, QuarantineRules, fingerprint
from cordee.policy.replica import Replica
from cordee.policy.retry import RetryBudget, RetryRules
from cordee.policy.seats import SeatRules, Seats
from cordee.ports import Receiver
from tests.flow.doubles import Sink
from tests.flow.test_serve import Scripted


class Scene:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.receivers: list[Receiver] = []
        self.pool = Pool(Seats("m", SeatRules()), RetryBudget(RetryRules(), 0.0), AttemptRules(), self.clock, Random(1))
        self.quarantine = Quarantine(QuarantineRules())
        self.ward = self.pool.ward = Ward(self.pool, self.quarantine)
        self.results: list[tuple[str, Result]] = []
        replica = Replica("w", ReplicaKind.LINK, Capacity(8, 4096), "f", Breaker(BreakerRules()), exact=True)
        replica.ready = True
        self.worker = Scripted(self.receivers.append)
        self.pool.join(replica, self.worker)

    def call(self, name: str, prompt: list[int], tenant: str = "t") -> Mailbox[Fact]:
        call = Call(name, "m", tenant, "/v1/completions", True, self.clock.now(), work=Work(array("I", prompt), 1))
        box: Mailbox[Fact] = Mailbox()
        answer = Answer(call, Sink(), box, self.clock, Counts())

        async def walk() -> None:
            self.results.append((name, await guarded(call, answer, self.pool, self.ward, Trip())))

        box.run(walk())
        return box

    def finish(self, number: int) -> None:
        self.receivers[number].token(0, 0, 1, None)
        self.receivers[number].finish(0, 1, Finish.LENGTH)


def test_a_proven_request_is_refused_without_being_given_to_anybody() -> None:
    scene = Scene()
    scene.quarantine.prove(0.0, fingerprint(Call("c", "m", "t", "/", True, 0.0, work=Work(array("I", [9]), 1))), "t")
    scene.call("poison", [9])
    scene.call("other", [8])
    [(name, result)] = scene.results
    assert name == "poison"
    assert isinstance(result, Refusal)
    assert result.why is Why.QUARANTINED
    assert len(scene.receivers) == 1


def test_the_calls_of_an_isolated_tenant_run_one_at_a_time() -> None:
    scene = Scene()
    for number in range(2):
        scene.quarantine.prove(0.0, bytes(16 * [number]), "t")
    for name in "abc":
        scene.call(name, [1], "t")
    scene.call("free", [1], "u")
    assert len(scene.receivers) == 2
    scene.finish(0)
    assert len(scene.receivers) == 3
    scene.finish(1)
    scene.finish(2)
    scene.finish(3)
    assert [name for name, result in scene.results if isinstance(result, Served)] == ["a", "free", "b", "c"]


def test_who_leaves_the_line_of_a_tenant_gives_way_to_the_next() -> None:
    scene = Scene()
    for number in range(2):
        scene.quarantine.prove(0.0, bytes(16 * [number]), "t")
    first, second, _ = (scene.call(name, [1], "t") for name in "abc")
    second.post(GONE)
    first.post(GONE)
    assert [(name, type(result)) for name, result in scene.results] == [("b", Abandoned), ("a", Abandoned)]
    scene.finish(1)
    assert [name for name, _ in scene.results] == ["b", "a", "c"]


def test_what_asks_the_same_as_a_suspect_runs_apart_until_one_is_cleared() -> None:
    scene = Scene()
    scene.call("running", [5])
    mark = fingerprint(Call("c", "m", "t", "/", True, 0.0, work=Work(array("I", [9]), 1)))
    scene.quarantine.suspected(mark)
    scene.call("alike", [9])
    assert (len(scene.receivers), len(scene.ward.waiting)) == (1, 1)
    scene.finish(0)
    scene.ward.look()
    assert (len(scene.receivers), len(scene.ward.waiting)) == (2, 0)
    scene.finish(1)
    scene.quarantine.left(mark)
    assert [type(result) for _, result in scene.results] == [Served, Served]
    assert not scene.quarantine.is_watching
