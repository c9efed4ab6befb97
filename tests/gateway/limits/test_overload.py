"""What clients see of limits, queues, priorities and degradation, on a real socket."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cordee.adapters.clock import LoopClock
from cordee.domain.call import Priority
from cordee.domain.caller import Allowances, Caller
from cordee.domain.chunk import Finish
from cordee.gateway.limits.overload import Overload, OverloadRules
from cordee.policy.degrade import Step
from cordee.policy.seats import SeatRules
from cordee.ports import Receiver
from tests.gateway.doubles import CALLERS, KEY, PATIENCE_S, Gateway

LOW_KEY, TOKENS_KEY = "sk-low", "sk-tokens"
CALLERS[LOW_KEY] = Caller("k6", "acme", priority=Priority.BATCH, priority_max=Priority.STANDARD)
CALLERS[TOKENS_KEY] = Caller("k7", "acme", allowances=Allowances(tokens_per_minute=100))
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20}


class Held:
    """A worker that answers one call when it is told to."""

    def __init__(self, gateway: Gateway) -> None:
        self.receivers: list[Receiver] = []
        self._gateway = gateway
        gateway.worker.act = self._act

    def _act(self, receiver: Receiver, attempt: int) -> bool:
        self.receivers.append(receiver)
        return True

    def answer(self) -> None:
        """Whoever has a seat gets its answer; whoever comes next, too."""
        self._gateway.worker.act = lambda receiver, attempt: False

        def end() -> None:
            for receiver in self.receivers:
                receiver.token(0, 0, 72, None)
                receiver.finish(0, 1, Finish.STOP)

        self._gateway.call(end)
        self._gateway.report()

    def wait(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not self._gateway.call(condition):
            assert time.monotonic() < end, "it never came"
            time.sleep(0.005)


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway(SeatRules(), sequences=1) as gateway:
        yield gateway


def waiting(gateway: Gateway) -> int:
    return gateway._roster.pools["m"].seats.waiting


def test_without_limits_or_a_wait_no_header_is_added(gateway: Gateway):
    status, headers, _ = gateway.ask(CHAT)
    assert status == 200
    assert not [name for name in headers if name.startswith(("x-ratelimit", "x-cordee"))]


def test_a_limited_answer_says_what_is_left_and_so_does_the_refusal(gateway: Gateway):
    status, headers, _ = gateway.ask(CHAT, key="sk-rare")
    assert status == 200
    assert headers["x-ratelimit-limit-requests"] == "1"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"] == "1m0s"
    status, headers, body = gateway.ask(CHAT, key="sk-rare")
    assert status == 429
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert 50 <= int(headers["retry-after"]) <= 60
    assert json.loads(body)["error"]["code"] == "rate_limit_exceeded"


def test_tokens_that_were_not_used_come_back(gateway: Gateway):
    for _ in range(20):  # on a slow machine a few tokens come back between two calls
        gateway.report()
        status, headers, _ = gateway.ask(CHAT, key=TOKENS_KEY)
        if status != 200:
            break
        assert int(headers["x-ratelimit-remaining-tokens"]) < 100
    assert status == 429, "a prompt of some thirty tokens a call, and at most twenty of answer, soon come to a hundred"


@pytest.mark.parametrize(
    ("key", "sent", "got"),
    [
        (KEY, {}, None),
        (KEY, {"X-Cordee-Priority": "interactive"}, None),
        (LOW_KEY, {"X-Cordee-Priority": "interactive"}, "standard"),
        (LOW_KEY, {"X-Cordee-Priority": "batch"}, None),
    ],
)
def test_a_wish_above_what_the_key_may_is_lowered_and_said(gateway: Gateway, key, sent, got):
    status, headers, _ = gateway.ask(CHAT, key=key, headers=sent)
    assert status == 200
    assert headers.get("x-cordee-priority") == got


@pytest.mark.parametrize(
    ("key", "body", "sent", "path", "priority"),
    [
        (KEY, {}, {}, "standard", Priority.STANDARD),
        (LOW_KEY, {}, {}, "key", Priority.BATCH),
        (KEY, {"service_tier": "flex"}, {}, "tier", Priority.BATCH),
        (KEY, {"service_tier": "priority"}, {}, "tier", Priority.INTERACTIVE),
        (KEY, {"service_tier": "auto"}, {}, "tier", Priority.STANDARD),
        (LOW_KEY, {"service_tier": "priority"}, {}, "tier", Priority.STANDARD),
        (KEY, {"service_tier": "flex"}, {"X-Cordee-Priority": "interactive"}, "header", Priority.INTERACTIVE),
        (KEY, {}, {}, "route", Priority.BATCH),
        (LOW_KEY, {}, {}, "route", Priority.BATCH),
    ],
)
def test_the_class_comes_from_header_tier_route_and_key(gateway: Gateway, key, body, sent, path, priority):
    if path == "route":
        gateway.calls.follow(priorities={b"/v1/chat/completions": Priority.BATCH})
    status, _, _ = gateway.ask({**CHAT, **body}, key=key, headers=sent)
    assert status == 200
    assert gateway.worker.calls[-1].priority is priority


def test_an_unknown_tier_is_refused_by_name(gateway: Gateway):
    status, _, body = gateway.ask({**CHAT, "service_tier": "gold"})
    assert status == 400
    assert json.loads(body)["error"]["param"] == "service_tier"


def test_an_answer_that_waited_says_where_and_how_long(gateway: Gateway):
    held = Held(gateway)
    answers: list[dict[str, str]] = []
    threads = [threading.Thread(target=lambda: answers.append(gateway.ask(CHAT)[1])) for _ in range(2)]
    threads[0].start()
    held.wait(lambda: len(held.receivers) == 1)
    threads[1].start()
    held.wait(lambda: waiting(gateway) == 1)
    held.answer()
    for thread in threads:
        thread.join(PATIENCE_S)
    waited = [headers for headers in answers if "x-cordee-queue-wait" in headers]
    assert len(waited) == 1
    assert waited[0]["x-cordee-queue-position"] == "0"
    assert (
        0 <= float(waited[0]["x-cordee-queue-wait"]) < PATIENCE_S
    )  # to the millisecond: it may have been less than half of one


def test_a_stream_that_asks_hears_of_its_place_while_it_waits(gateway: Gateway):
    held = Held(gateway)
    first = threading.Thread(target=lambda: gateway.ask(CHAT))
    first.start()
    held.wait(lambda: len(held.receivers) == 1)
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE_S)
    sent = {"Authorization": f"Bearer {KEY}", "X-Cordee-Queue-Events": "1"}
    connection.request("POST", "/v1/chat/completions", json.dumps({**CHAT, "stream": True}), sent)
    response = connection.getresponse()
    assert response.status == 200
    assert response.readline() == b": queue position=0 wait=0.0\n"
    held.answer()
    rest = response.read().replace(b": queue position=0 wait=0.0\n\n", b"")  # said again every second
    assert rest.startswith(b"\ndata: ")
    assert rest.endswith(b"data: [DONE]\n\n")
    assert rest.count(b'"role"') == 1
    first.join(PATIENCE_S)


def test_a_stream_that_was_told_and_gets_no_seat_ends_in_an_error_event():
    with Gateway(SeatRules(wait_s_max=0.2), sequences=1) as gateway:
        held = Held(gateway)
        first = threading.Thread(target=lambda: gateway.ask(CHAT))
        first.start()
        held.wait(lambda: len(held.receivers) == 1)
        status, _, body = gateway.ask({**CHAT, "stream": True}, headers={"X-Cordee-Queue-Events": "1"})
        assert status == 200
        assert body.startswith(b": queue position=0")
        assert json.loads(body.rsplit(b"data: ", 1)[1])["error"]["code"] == "queue_timeout"
        held.answer()
        first.join(PATIENCE_S)


def test_a_refusal_says_where_one_would_have_stood():
    with Gateway(SeatRules(waiting_max=1), sequences=1) as gateway:
        held = Held(gateway)
        threads = [threading.Thread(target=lambda: gateway.ask(CHAT)) for _ in range(2)]
        threads[0].start()
        held.wait(lambda: len(held.receivers) == 1)
        threads[1].start()
        held.wait(lambda: waiting(gateway) == 1)
        status, headers, _ = gateway.ask(CHAT)
        assert status == 503
        assert headers["x-cordee-queue-position"] == "1"
        assert int(headers["retry-after"]) >= 1
        held.answer()
        for thread in threads:
            thread.join(PATIENCE_S)


class Degraded:
    """A gateway at a step that is set by hand."""

    def __init__(self, gateway: Gateway, step: Step) -> None:
        def put() -> Overload:
            overload = Overload(OverloadRules(max_tokens=3), gateway._roster.pools.values(), LoopClock(gateway._loop))
            overload.step = step
            gateway.front.overload = gateway.front._walks.overload = overload
            return overload

        self.overload: Overload = gateway.call(put)


def test_capped_batch_answers_are_shorter_and_say_so(gateway: Gateway):
    Degraded(gateway, Step.CAPPED)
    status, headers, body = gateway.ask(CHAT, headers={"X-Cordee-Priority": "batch"})
    assert status == 200
    assert headers["x-cordee-degraded"] == "capped"
    assert json.loads(body)["usage"]["completion_tokens"] == 3
    gateway.report()
    _, headers, body = gateway.ask(CHAT)
    assert "x-cordee-degraded" not in headers
    assert json.loads(body)["usage"]["completion_tokens"] > 3


@pytest.mark.parametrize("step", [Step.CACHE_ONLY, Step.REFUSE])
def test_at_the_last_steps_new_calls_are_refused_and_the_rest_works(gateway: Gateway, step: Step):
    degraded = Degraded(gateway, step)
    for _ in range(2):
        status, headers, body = gateway.ask(CHAT)
        assert status == 503
        assert headers["x-cordee-degraded"] == step.name.lower()
        assert int(headers["retry-after"]) >= 1
        assert json.loads(body)["error"]["code"] == "overloaded"
    assert degraded.overload.refused == 2
    assert gateway.ask(b"", path="/v1/models", method="GET")[0] == 200
    degraded.overload.step = Step.NORMAL
    assert gateway.ask(CHAT)[0] == 200


def test_looking_at_the_pools_moves_the_steps_and_holds_batch_calls(gateway: Gateway):
    overload = Degraded(gateway, Step.NORMAL).overload
    seats = gateway._roster.pools["m"].seats

    def look() -> list[int]:
        gateway.replica.used = gateway.replica.capacity.sequences
        for n in range(40):
            overload.look(n * 0.25)
        steps = [int(overload.step)]
        gateway.replica.used = 0
        for n in range(40, 200):
            overload.look(n * 0.25)
        return [*steps, int(overload.step)]

    assert gateway.call(look) == [Step.HEDGING_OFF, Step.NORMAL]
    assert seats._line.held_from == 3
    names = {metric.name for metric in overload.metrics()}
    assert "cordee_degradation_step" in names
