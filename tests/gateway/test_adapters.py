"""A model with an adapter is asked for by both names, and only our own workers are asked."""

from __future__ import annotations

import json

from cordee.domain.replica import Capacity, ReplicaKind
from cordee.policy.breaker import Breaker, BreakerRules
from cordee.policy.fit import fits, is_plain
from cordee.policy.replica import Replica, Size, Want
from tests.gateway.doubles import Gateway


def test_the_adapter_reaches_the_worker_and_the_answer_has_the_name_that_was_asked_for() -> None:
    asked = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    with Gateway() as gateway:
        gateway.call(lambda: gateway._roster.adapters.update({"m": ("one",)}))
        status, _, body = gateway.ask({"model": "m:one", **asked})
        assert (status, json.loads(body)["model"]) == (200, "m:one")
        (call,) = gateway.worker.calls
        assert call.work is not None
        assert (call.model, call.work.adapter, call.local_only) == ("m", "one", True)
        for unknown in ("m:two", "m:", ":one", "other:one", "m:one:one"):
            assert gateway.ask({"model": unknown, **asked})[0] == 404
        listed = json.loads(gateway.ask(b"", "/v1/models", "GET")[2])["data"]
        assert [(one["id"], one.get("parent")) for one in listed] == [("m", None), ("m:one", "m")]
        assert json.loads(gateway.ask(b"", "/v1/models/m:one", "GET")[2])["root"] == "m"
        assert gateway.ask(b"", "/v1/models/m:two", "GET")[0] == 404


def test_a_call_with_an_adapter_goes_to_no_server_of_another_make() -> None:
    def replica(kind: ReplicaKind) -> Replica:
        return Replica("r", kind, Capacity(4, 1000), "", Breaker(BreakerRules()))

    want = Want(Size(1, 10), own=True)
    assert fits(replica(ReplicaKind.LINK), want)
    assert not fits(replica(ReplicaKind.HTTP), want)
    assert not is_plain(want)
