"""Who comes under suspicion when workers die."""

from __future__ import annotations

import pytest

from cordee.domain.chunk import Finish
from cordee.domain.outcome import End
from cordee.flow.ward import Ward
from cordee.policy.quarantine import Quarantine, QuarantineRules
from cordee.ports import Receiver
from tests.flow.test_serve import Scene, Scripted

OTHERS = 5  # calls that the worker had beside this one


class Dying:
    """A worker that dies so long after it was asked, and says one token before or none."""

    def __init__(self, scene: Scene, name: str, after_s: float, *, accepts: bool, speaks: bool) -> None:
        self._scene = scene
        self._after_s = after_s
        self._accepts, self._speaks = accepts, speaks
        self._replica = scene.replica(name, Scripted(self._work))

    def _work(self, receiver: Receiver) -> None:
        if self._accepts:
            receiver.accepted()
        if self._speaks:
            self._scene.clock.call_later(self._after_s / 2, lambda: receiver.token(0, 0, 0, None))
        self._scene.clock.call_later(self._after_s, lambda: self._die(receiver))

    def _die(self, receiver: Receiver) -> None:
        self._replica.ready = False
        receiver.broken("it died", ran=True, crash=OTHERS)


def goes_on(receiver: Receiver) -> None:
    receiver.accepted()
    for index in range(1, 3):
        receiver.token(0, index, index, None)
    receiver.finish(0, 3, Finish.LENGTH)


@pytest.mark.parametrize(("accepted", "suspects"), [(False, 0), (True, 1)])
def test_a_stream_that_moved_to_a_worker_that_was_dead_already_is_no_suspect(accepted: bool, suspects: int) -> None:
    """Half of a pool dies at once: its streams go to a worker whose death is seen a moment later, and cannot be the reason."""
    scene = Scene()
    quarantine = Quarantine(QuarantineRules())
    scene.pool.ward = Ward(scene.pool, quarantine)
    seen: list[int] = []

    def last(receiver: Receiver) -> None:
        seen.append(sum(quarantine.suspects.values()))
        goes_on(receiver)

    Dying(scene, "a", 0.2, accepts=True, speaks=True)
    scene.call()
    Dying(scene, "b", 0.01, accepts=accepted, speaks=False)
    scene.clock.run(until_s=0.205)
    scene.replica("c", Scripted(last))
    scene.clock.run(until_s=30.0)
    assert seen == [suspects]
    assert scene.ended[0].end is End.SERVED
    assert scene.sink.tokens == {0: [0, 1, 2]}
    assert quarantine.suspects == {}
