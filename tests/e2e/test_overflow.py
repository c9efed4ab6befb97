"""A house with little room and a provider outside, all real processes: what has no seat leaves, marked and paid for, and nothing
else does."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cordee.policy.oracle import answer_length
from tests.ports import free_port
from tests.rehearsal.provider import KEY as PROVIDER_KEY
from tests.rehearsal.provider import WORDS, Provider, words
from tests.rig import HEADERS, KEY, Rig, oracle_text, until

pytestmark = pytest.mark.e2e

SLOTS = 2
TOKENS = 20
FULL = "memory_alert = 0.02\nmemory_normal = 0.01"  # this host uses more: overflow is on
NEVER = "cpu_alert = 101\nmemory_alert = 101\ngpu_alert = 101\nerrors_alert = 101"
TEXT = "".join(words())
# Seeds whose answers are long, so that they hold their seats while the others come.
LONG = [seed for seed in range(200) if answer_length(seed, TOKENS, ignore_eos=False) == TOKENS][:8]


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


def configuration(provider_url: str, overflow: str, spend: float = 1000.0) -> str:
    return f"""
        [oracle]
        slots = {SLOTS}
        token_s = 0.03
        [overflow]
        window_s = 1
        spend_per_day = {spend}
        {overflow}
        [[cloud]]
        name = "outer"
        provider = "alibaba"
        base_url = "{provider_url}"
        key_env = "PROVIDER_KEY"
        models = {{oracle = "qwen-plus"}}
        price_in = 1000.0
        price_out = 2000.0
        calls_max = 64
        tokens_max = 100
        breaker = {{failures = 3, open_s = 0.3, open_s_max = 0.5}}
    """


@contextmanager
def house(directory: Path, toml: str, key: str = PROVIDER_KEY, ports: list[int] | None = None) -> Iterator[Rig]:
    (directory / "cordee.toml").write_text(toml)
    with Rig(directory, workers=1, environment={"PROVIDER_KEY": key}, ports=ports) as rig:
        until(lambda: 'cordee_overflow_signal{signal="memory"}' in rig.get("/metrics"), "the first look at the host")
        yield rig


@pytest.fixture(scope="module")
def full(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A house in overflow."""
    with house(tmp_path_factory.mktemp("full"), configuration(provider.url, FULL)) as rig:
        until(lambda: rig.metric("cordee_overflow_active") == 1, "the house is full")
        yield rig


@pytest.fixture(scope="module")
def calm(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A house whose signals are never high."""
    with house(tmp_path_factory.mktemp("calm"), configuration(provider.url, NEVER)) as rig:
        yield rig


@pytest.fixture
def alone(calm: Rig) -> Iterator[Rig]:
    """The same with nobody left in it."""
    calm.kill_worker(0)
    until(lambda: calm.ready_replicas() == 0, "the worker is missed")
    yield calm
    if calm.workers[0].poll() is not None:
        calm.restart_worker(0)
    calm.wait_ready()


@pytest.fixture(autouse=True)
def fresh(provider: Provider) -> None:
    provider.forget()
    provider.be()


def body(seed: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "model": "oracle", "messages": [{"role": "user", "content": "hi"}], "max_tokens": TOKENS, "seed": seed, **more
    }  # fmt: skip


def asked(rig: Rig, request: dict[str, Any], headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], Any]:
    """Status, headers, and the answer: its JSON, or the text of its stream with its last event."""
    connection = http.client.HTTPConnection("127.0.0.1", rig.ports[0], timeout=60)
    connection.request("POST", "/v1/chat/completions", json.dumps(request), {**HEADERS, **(headers or {})})
    response = connection.getresponse()
    found = {name.lower(): value for name, value in response.getheaders()}
    data = response.read()
    if not found.get("content-type", "").startswith("text/event-stream"):
        return response.status, found, json.loads(data)
    events = [line.removeprefix(b"data: ") for line in data.split(b"\n\n") if line.startswith(b"data: ")]
    return response.status, found, events


def text_of(events: list[bytes]) -> str:
    parsed = [json.loads(event) for event in events if event != b"[DONE]"]
    return "".join(choice["delta"].get("content") or "" for event in parsed for choice in event.get("choices", []))


def many(
    rig: Rig, requests: list[dict[str, Any]], headers: dict[str, str] | None = None
) -> list[tuple[int, dict[str, str], Any]]:
    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(lambda request: asked(rig, request, headers), requests))


def is_outside(headers: dict[str, str]) -> bool:
    return headers.get("x-cordee-served-by") == "cloud/outer"


def trust(rig: Rig) -> None:
    """Until the provider's breaker is closed: calls must go there for that."""

    def is_trusted() -> bool:
        if rig.metric("cordee_cloud_ready") != 1:
            many(rig, [body(seed) for seed in LONG[: SLOTS + 2]], {"X-Request-Timeout": "5"})
        return rig.metric("cordee_cloud_ready") == 1

    until(is_trusted, "the provider is trusted")


def test_only_the_excess_leaves_and_it_is_marked_and_counted(full, provider):
    before = full.metric("cordee_cloud_calls_total"), full.metric("cordee_cloud_spend_total")
    assert not is_outside(asked(full, body(7))[1])
    until(lambda: full.metric("cordee_replica_calls") == 0, "the seats to be free")
    answers = many(full, [body(seed, stream=seed % 2 == 0) for seed in LONG])
    assert all(status == 200 for status, _, _ in answers)
    outside = [answer for answer in answers if is_outside(answer[1])]
    assert len(outside) == len(provider.seen())
    assert 0 < len(outside) <= len(LONG) - SLOTS  # fewer when some came so late that a seat was free again
    for _, _, answer in outside:
        if isinstance(answer, dict):
            assert answer["choices"][0]["message"]["content"] == TEXT
            assert answer["model"] == "oracle"
            assert answer["usage"]["completion_tokens"] == WORDS
        else:
            assert (text_of(answer), answer[-1]) == (TEXT, b"[DONE]")
    for request in provider.seen():
        assert request["body"]["model"] == "qwen-plus"
        assert request["body"]["max_completion_tokens"] == TOKENS
        assert not {"max_tokens", "user", "metadata"} & request["body"].keys()
        assert "x-cordee-via" in request["headers"]
    until(lambda: full.metric("cordee_cloud_calls_total") - before[0] == len(outside), "every call to be counted")
    cost = len(outside) * (10 * 1000 + WORDS * 2000) / 1_000_000
    assert full.metric("cordee_cloud_spend_total") - before[1] == pytest.approx(cost)


def test_when_the_rush_is_over_nothing_leaves(full, provider):
    for seed in range(4):
        until(lambda: full.metric("cordee_replica_calls") == 0, "the seats to be free")
        assert not is_outside(asked(full, body(seed))[1])
    assert provider.seen() == []


def test_the_receipt_says_that_a_call_was_outside_and_for_how_much(alone):
    _, headers, _ = asked(alone, body(stream=True))
    path = f"/v1/calls/{headers['x-request-id']}"
    until(lambda: json.loads(alone.get(path) or "{}").get("status") == "served", "the receipt")
    receipt = json.loads(alone.get(path))
    assert receipt["cloud"] is True
    assert receipt["money"] > 0


def test_a_house_that_is_not_full_lets_its_calls_wait(calm, provider):
    answers = many(calm, [body(seed) for seed in LONG[:6]])
    assert [status for status, _, _ in answers] == [200] * 6
    assert not any(is_outside(headers) for _, headers, _ in answers)
    assert provider.seen() == []


def test_what_must_stay_stays(full, provider):
    answers = many(full, [body(seed) for seed in LONG[:6]], {"X-Cordee-Local-Only": "1"})
    assert [status for status, _, _ in answers] == [200] * 6
    assert provider.seen() == []


def test_what_must_stay_stays_even_when_nobody_can_answer_it_here(alone, provider):
    status, _, answer = asked(alone, body(), {"X-Cordee-Local-Only": "1", "X-Request-Timeout": "0.5"})
    assert status in (503, 504), answer
    assert provider.seen() == []


def test_with_nobody_left_in_the_house_calls_leave_at_once_and_come_back_at_once(alone, provider):
    status, headers, answer = asked(alone, body(stream=True))
    assert (status, text_of(answer), is_outside(headers)) == (200, TEXT, True)
    alone.restart_worker(0)
    alone.wait_ready()
    status, headers, answer = asked(alone, body(3, ignore_eos=True))
    assert not is_outside(headers)
    assert answer["choices"][0]["message"]["content"] == oracle_text(3, TOKENS)


@pytest.mark.parametrize("mode", ["busy", "error", "html", "json", "garbage", "refuse"])
def test_a_provider_out_of_order_sends_its_calls_back_into_the_house(full, provider, mode):
    trust(full)
    provider.be(mode=mode, retry_after_s=0.2)
    answers = many(full, [body(seed, stream=mode == "garbage") for seed in LONG[:5]])
    assert [status for status, _, _ in answers] == [200] * 5
    assert not any(is_outside(headers) for _, headers, _ in answers)
    assert provider.seen()


def test_a_provider_that_is_down_costs_no_answer(full, provider):
    trust(full)
    provider.kill()
    answers = many(full, [body(seed) for seed in LONG[:5]])
    provider.start_again()
    assert [status for status, _, _ in answers] == [200] * 5


def test_a_stream_that_breaks_outside_goes_on_outside_from_its_text(alone, provider):
    provider.be(mode="break", after=5, once=True)
    status, _, events = asked(alone, body(stream=True))
    assert (status, text_of(events), events[-1]) == (200, TEXT, b"[DONE]")
    first, second = provider.seen()
    assert second["body"]["messages"][-1] == {"role": "assistant", "content": "".join(words(5)), "partial": True}
    assert first["body"]["stream_options"] == {"include_usage": True}
    ids = {json.loads(event)["id"] for event in events if event != b"[DONE]"}
    assert len(ids) == 1


def test_a_stream_that_keeps_breaking_outside_ends_in_an_error(alone, provider):
    provider.be(mode="break", after=0)
    status, _, events = asked(alone, body(stream=True, max_tokens=5), {"X-Request-Timeout": "2"})
    assert status != 200 or ("error" in json.loads(events[-1]) and b"[DONE]" not in events)


def test_a_client_that_leaves_ends_its_call_outside(alone, provider):
    trust(alone)
    provider.be(word_s=0.2)
    connection = http.client.HTTPConnection("127.0.0.1", alone.ports[0], timeout=10)
    connection.request("POST", "/v1/chat/completions", json.dumps(body(stream=True)), HEADERS)
    assert connection.getresponse().read(64)
    connection.close()
    until(lambda: alone.metric("cordee_cloud_sequences") == 0, "the seat outside is given back")
    assert alone.metric("cordee_cloud_spend_total") > 0


def test_no_more_is_spent_than_was_said(provider, tmp_path):
    one = (10 * 1000 + WORDS * 2000) / 1_000_000
    most = ((len(json.dumps(body(100))) + 64) * 1000 + TOKENS * 2000) / 1_000_000
    cap = most + 2.5 * one
    with house(tmp_path, configuration(provider.url, FULL, spend=cap)) as rig:
        for _ in range(2):
            many(rig, [body(seed) for seed in LONG])
        spent = rig.metric("cordee_cloud_spend_total")
        assert 0 < spent <= cap
        assert len(provider.seen()) == round(spent / one)


def test_a_provider_that_is_ourselves_is_refused_and_the_call_served_here(tmp_path):
    port = free_port()
    toml = configuration(f"http://127.0.0.1:{port}/v1", FULL)
    toml = toml.replace('"alibaba"', '"openai"').replace("qwen-plus", "oracle")
    with house(tmp_path, toml, key=KEY, ports=[port]) as rig:
        answers = many(rig, [body(seed) for seed in LONG[:5]])
        assert [status for status, _, _ in answers] == [200] * 5
        assert not any(is_outside(headers) for _, headers, _ in answers)
        assert 'cordee_requests_rejected_total{status="508"}' in rig.get("/metrics")
