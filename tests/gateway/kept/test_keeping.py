"""Repeats, resumes and receipts at one gateway, with a worker and another server that exist in memory only."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from cordee.gateway.kept.idempotency import checked, digest
from cordee.gateway.kept.journals import Journals
from cordee.gateway.kept.keeping import Keeping, KeepingRules
from cordee.gateway.kept.receipts import ReceiptPaths, Receipts
from cordee.gateway.kept.resume import CALLS
from cordee.memory.journal import MemoryJournal
from cordee.ports import Receiver
from cordee.wire.errors import Invalid
from tests.gateway.doubles import CALLERS, KEY, PATIENCE_S, Gateway
from tests.gateway.test_forward import JSON, Upstream, whole

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
FORWARDED: dict[str, Any] = {**CHAT, "model": "f"}
FOREIGN_KEY = "sk-foreign"


class KeepingGateway(Gateway):
    """A gateway that keeps, in its own memory; its other server is `upstream`."""

    async def _build(self) -> None:
        await super()._build()
        self.upstream = Upstream()
        now = asyncio.get_running_loop().time
        journals = Journals(MemoryJournal(now, 50, 1 << 20), None)
        self.calls.keeping = self.keeping = Keeping(self.calls, journals, KeepingRules(wait_s=0.3, answer_bytes_max=64))
        self.receipts = Receipts(self.watch, journals, 3, 60.0, 0.1)
        self.front._walks.receipts = self.receipts
        paths = ReceiptPaths(self.receipts, self.keeping.resumes.by_get, self.keeping.spawn)
        self.front.paths.add(b"GET", CALLS, paths.get)
        self._roster.serves("s:1", ["f"], self.upstream, self._roster.breaker())


@pytest.fixture(scope="module")
def shared() -> Iterator[KeepingGateway]:
    with pytest.MonkeyPatch.context() as patch:
        foreign = CALLERS[KEY]
        patch.setitem(CALLERS, FOREIGN_KEY, type(foreign)("k9", "other"))
        gateway = KeepingGateway()
        with gateway:
            yield gateway
        assert gateway.faults == []


@pytest.fixture
def gateway(shared: KeepingGateway) -> KeepingGateway:
    shared.worker.text = "Hello é!"
    shared.worker.act = lambda receiver, attempt: False
    shared.worker.calls.clear()
    shared.upstream.calls.clear()
    shared.upstream.scripts = []
    return shared


def ask(
    gateway: Gateway, body: dict[str, Any] | bytes, key: str = KEY, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return gateway.ask(body, key=key, headers=sent)


def get(gateway: Gateway, path: str, key: str = KEY, **headers: str) -> tuple[int, dict[str, str], bytes]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return gateway.ask(b"", path, "GET", key=key, headers=sent)


@pytest.mark.parametrize("key", [b"", b"a" * 256, b"a b", b"a\x7f", b"\xc3\xa9", b"a\tb", b"\x01"])
def test_a_key_that_is_none_is_refused(key: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        checked(key)
    assert (refused.value.status, refused.value.param) == (400, "Idempotency-Key")


def test_the_longest_key_is_a_key() -> None:
    assert checked(b"~" * 255) == "~" * 255


def test_path_and_body_are_told_apart_in_a_digest() -> None:
    assert len({digest(b"/a", b"bc"), digest(b"/ab", b"c"), digest(b"/a", b"bd")}) == 3


def test_a_wrong_wish_is_a_400_that_names_its_header(gateway: KeepingGateway) -> None:
    status, _, answer = ask(gateway, CHAT, Idempotency_Key="k" * 256)
    assert (status, json.loads(answer)["error"]["param"]) == (400, "Idempotency-Key")
    status, _, answer = ask(gateway, CHAT, X_Cordee_Resumable="maybe")
    assert (status, json.loads(answer)["error"]["param"]) == (400, "X-Cordee-Resumable")
    assert gateway.worker.calls == []


def test_a_repeat_is_not_run_again_and_another_body_is_a_conflict(gateway: KeepingGateway) -> None:
    first = ask(gateway, CHAT, Idempotency_Key="one")
    again = ask(gateway, CHAT, Idempotency_Key="one")
    assert (first[0], again[0]) == (200, 200)
    assert first[2] == again[2]
    assert "idempotency-replayed" not in first[1]
    assert again[1]["idempotency-replayed"] == "true"
    assert len(gateway.worker.calls) == 1
    assert ask(gateway, {**CHAT, "n": 2}, Idempotency_Key="one")[0] == 409
    assert ask(gateway, CHAT, key=FOREIGN_KEY, Idempotency_Key="one")[1].get("idempotency-replayed") is None


def test_a_stream_is_replayed_as_a_stream(gateway: KeepingGateway) -> None:
    first = ask(gateway, {**CHAT, "stream": True}, Idempotency_Key="stream")
    again = ask(gateway, {**CHAT, "stream": True}, Idempotency_Key="stream")
    assert first[2].split(b"\n", 1)[1] == again[2]  # all but the hint when to reconnect
    assert len(gateway.worker.calls) == 1


def test_a_call_that_failed_frees_its_key(gateway: KeepingGateway) -> None:
    def fail(receiver: Receiver, attempt: int) -> bool:
        receiver.broken("it cannot be done", ran=True, fault=True)
        return True

    gateway.worker.act = fail
    assert ask(gateway, CHAT, Idempotency_Key="failing")[0] == 422
    gateway.worker.act = lambda receiver, attempt: False
    status, headers, _ = ask(gateway, CHAT, Idempotency_Key="failing")
    assert (status, headers.get("idempotency-replayed")) == (200, None)


def test_a_forwarded_answer_is_kept_as_it_came(gateway: KeepingGateway) -> None:
    gateway.upstream.scripts = [whole(200, b'{"a":1}')]
    first, again = (ask(gateway, FORWARDED, Idempotency_Key="f1") for _ in range(2))
    assert first[2] == again[2] == b'{"a":1}'
    assert (first[1]["content-type"], again[1]["content-type"]) == ("application/json",) * 2
    assert again[1]["idempotency-replayed"] == "true"
    assert len(gateway.upstream.calls) == 1


@pytest.mark.parametrize("answer", [(400, b'{"error":{}}'), (500, b"x"), (200, b'"' + b"x" * 65 + b'"')])
def test_errors_and_what_is_too_long_are_not_kept(gateway: KeepingGateway, answer: tuple[int, bytes]) -> None:
    gateway.upstream.scripts = [whole(*answer)]
    key = f"f{answer[0]}{len(answer[1])}"
    assert "idempotency-replayed" not in ask(gateway, FORWARDED, Idempotency_Key=key)[1]
    assert "idempotency-replayed" not in ask(gateway, FORWARDED, Idempotency_Key=key)[1]


def test_a_repeat_waits_for_the_forwarded_call_that_runs_and_not_for_ever(
    gateway: KeepingGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[Receiver] = []
    arrived = threading.Event()

    def hold(receiver: Receiver) -> None:
        held.append(receiver)
        arrived.set()

    gateway.upstream.scripts = [hold]
    answers: list[tuple[int, dict[str, str], bytes]] = []

    def repeat() -> None:
        answers.append(ask(gateway, FORWARDED, Idempotency_Key="slow"))

    first = threading.Thread(target=repeat)
    first.start()
    assert arrived.wait(PATIENCE_S)
    status, _, answer = ask(gateway, FORWARDED, Idempotency_Key="slow")
    assert (status, json.loads(answer)["error"]["code"]) == (409, "idempotency_in_progress")
    monkeypatch.setattr(gateway.keeping, "rules", replace(gateway.keeping.rules, wait_s=PATIENCE_S))
    second = threading.Thread(target=repeat)
    second.start()

    def finish() -> None:
        held[0].head(200, JSON)
        held[0].body(b"{}")
        held[0].complete()

    gateway.call(finish)
    first.join(PATIENCE_S)
    second.join(PATIENCE_S)
    assert [answer[2] for answer in answers] == [b"{}", b"{}"]
    assert len(gateway.upstream.calls) == 1


def test_a_stream_goes_on_behind_its_last_event_and_only_for_its_tenant(gateway: KeepingGateway) -> None:
    _, headers, told = ask(gateway, {**CHAT, "stream": True}, X_Cordee_Resumable="1")
    events = told.decode().split("\n\n")
    id = next(line[4:] for line in events[3].splitlines() if line.startswith("id: "))
    status, again, rest = gateway.ask(b"", headers={"Last-Event-ID": id})
    assert (status, again["x-request-id"]) == (200, headers["x-request-id"])
    assert rest.decode() == "\n\n".join(events[4:])
    assert gateway.ask(b"", key=FOREIGN_KEY, headers={"Last-Event-ID": id})[0] == 404
    assert gateway.ask(json.dumps(CHAT).encode(), headers={"Last-Event-ID": id})[0] == 409
    path = f"/v1/calls/{headers['x-request-id']}/events"
    assert get(gateway, path, Last_Event_ID=id)[2] == rest
    assert get(gateway, path, key=FOREIGN_KEY)[0] == 404
    assert get(gateway, f"/v1/calls/{'0' * 46}/events", Last_Event_ID=id)[0] == 404


def test_a_receipt_is_its_tenants_and_forgotten_behind_others(gateway: KeepingGateway) -> None:
    _, headers, _ = ask(gateway, CHAT)
    path = f"/v1/calls/{headers['x-request-id']}"
    status, _, receipt = get(gateway, path)
    found = json.loads(receipt)
    assert (status, found["status"], found["replicas"], found["model"]) == (200, "served", ["w1"], "m")
    assert get(gateway, path, key=FOREIGN_KEY)[0] == 404
    assert get(gateway, "/v1/calls/../x")[0] in (400, 404)
    for _ in range(3):
        ask(gateway, CHAT)
    assert get(gateway, path)[0] == 404


def test_a_call_that_runs_says_so(gateway: KeepingGateway) -> None:
    begun, go_on = threading.Event(), threading.Event()
    ids: list[str] = []

    def hold(receiver: Receiver, attempt: int) -> bool:
        ids.append(gateway.worker.calls[-1].id)
        begun.set()

        def later() -> None:
            if go_on.is_set():
                receiver.broken("over", ran=True, fault=True)
            else:
                asyncio.get_running_loop().call_later(0.01, later)

        later()
        return True

    gateway.worker.act = hold
    asking = threading.Thread(target=ask, args=(gateway, CHAT))
    asking.start()
    assert begun.wait(PATIENCE_S)
    assert json.loads(get(gateway, f"/v1/calls/{ids[0]}")[2])["status"] == "running"
    go_on.set()
    asking.join(PATIENCE_S)
