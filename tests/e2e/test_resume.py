"""Gateways, workers and the store die under streams, and every client has every token once: real processes, the oracle engine."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.resuming import Stream
from tests.rig import HEADERS, Rig, oracle_text, seeds, until
from tests.valkey import Valkey

pytestmark = pytest.mark.e2e
TOKENS = 120  # a second and a half of the oracle's pace
LONG = 400  # for streams that all must be under way when their gateway goes, however busy the cores are
STREAMS = 50
CHAT = "/v1/chat/completions"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Valkey]:
    with Valkey(tmp_path) as store:
        yield store


@pytest.fixture
def rig(tmp_path: Path, store: Valkey) -> Iterator[Rig]:
    with Rig(tmp_path, gateways=2, gateway_flags=("--store", store.url)) as rig:
        yield rig


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """For tests that kill nothing."""
    directory = tmp_path_factory.mktemp("calm")
    with Valkey(directory) as store, Rig(directory, gateways=2, gateway_flags=("--store", store.url)) as rig:
        yield rig


def body(seed: int, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "hello"}]
    return {"model": "oracle", "messages": messages, "max_tokens": TOKENS, "seed": seed, "ignore_eos": True, **more}


def ask(
    rig: Rig, gateway: int, method: str, path: str, asked: dict[str, Any] | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", rig.ports[gateway], timeout=30)
    try:
        sent = {**HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.request(method, path, None if asked is None else json.dumps(asked), sent)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def follow_all(streams: list[Stream], ports: list[int], event: Callable[[], object]) -> None:
    """All streams at once; `event` happens when every one has begun."""

    async def run() -> None:
        tasks = [asyncio.create_task(stream.follow(ports)) for stream in streams]
        await asyncio.wait_for(asyncio.gather(*(stream.begun.wait() for stream in streams)), 30)
        await asyncio.to_thread(event)
        await asyncio.wait_for(asyncio.gather(*tasks), 60)

    asyncio.run(run())


def assert_whole(stream: Stream) -> None:
    assert stream.refused == []
    assert stream.text == oracle_text(stream.body["seed"], stream.body["max_tokens"])
    assert (stream.finishes, stream.roles, stream.done) == (["length"], 1, 1)
    assert len({(e["id"], e["created"], e["system_fingerprint"]) for e in stream.events}) == 1


def kill_gateway(rig: Rig, number: int) -> None:
    rig.gateways[number].kill()
    rig.gateways[number].wait()


def test_all_streams_of_a_killed_gateway_go_on_at_the_other_with_every_token_once(rig: Rig) -> None:
    streams = [Stream(body(seed, max_tokens=LONG)) for seed in seeds(STREAMS)]
    follow_all(streams, rig.ports, lambda: kill_gateway(rig, 0))
    for stream in streams:
        assert_whole(stream)
    assert sum(len(stream.resumed_s) for stream in streams) >= STREAMS
    assert rig.metric("cordee_repeats_total", 1) >= STREAMS
    until(lambda: rig.metric("cordee_replica_calls", 1) == 0, "the seats to be free")


def test_streams_go_on_when_gateway_and_worker_die_together(rig: Rig) -> None:
    streams = [
        Stream(body(seed, n=2) if number % 5 == 0 else body(seed)) for number, seed in enumerate(seeds(20, of=2))
    ]

    def kill_both() -> None:
        rig.kill_worker(0)
        kill_gateway(rig, 0)

    follow_all(streams, rig.ports, kill_both)
    for stream in streams:
        if "n" in stream.body:
            assert [stream.text_of(choice) for choice in (0, 1)] == [
                oracle_text(stream.body["seed"] + choice, TOKENS) for choice in (0, 1)
            ]
            assert (stream.finishes, stream.roles, stream.done) == (["length"] * 2, 2, 1)
        else:
            assert_whole(stream)


def test_streams_go_on_without_their_store_and_new_ones_say_they_cannot_be_resumed(rig: Rig, store: Valkey) -> None:
    streams = [Stream(body(seed)) for seed in seeds(10, of=3)]
    follow_all(streams, rig.ports, store.kill)
    for stream in streams:
        assert_whole(stream)
    status, headers, _ = ask(rig, 0, "POST", CHAT, body(1, max_tokens=4), X_Cordee_Resumable="1")
    assert (status, headers["x-cordee-resumable"]) == (200, "false")
    status, headers, first = ask(rig, 0, "POST", CHAT, body(2, max_tokens=4), Idempotency_Key="local")
    assert (status, headers["x-cordee-idempotency"]) == (200, "local")
    status, headers, again = ask(rig, 0, "POST", CHAT, body(2, max_tokens=4), Idempotency_Key="local")
    assert (status, headers["idempotency-replayed"]) == (200, "true")
    assert first == again
    assert rig.metric("cordee_store_up") == 0
    assert rig.metric("cordee_store_errors_total") > 0
    store.restart()
    until(lambda: rig.metric("cordee_store_up") == 1, "the store to be used again")
    status, headers, _ = ask(rig, 0, "POST", CHAT, body(1, max_tokens=4), X_Cordee_Resumable="1")
    assert (status, headers["x-cordee-resumable"]) == (200, "true")


def test_a_frozen_store_holds_no_call_up(rig: Rig, store: Valkey) -> None:
    ask(rig, 0, "POST", CHAT, body(1, max_tokens=1))
    os.kill(store.process.pid, signal.SIGSTOP)
    try:
        for _ in range(6):
            began = time.monotonic()
            status, _, _ = ask(rig, 0, "POST", CHAT, body(3, max_tokens=4), X_Cordee_Resumable="1", Idempotency_Key="f")
            assert status == 200
            assert time.monotonic() - began < 5
    finally:
        os.kill(store.process.pid, signal.SIGCONT)


def test_a_finished_answer_is_resumed_and_read_again_from_the_store(calm: Rig) -> None:
    stream = Stream(body(11, stop=[oracle_text(11, TOKENS).split()[30]], stream_options={"include_usage": True}))
    asyncio.run(stream.follow(calm.ports[:1]))
    status, _, told = ask(calm, 1, "GET", f"/v1/calls/{stream.stream_id}/events")
    assert status == 200
    texts = [json.loads(line[6:]) for line in told.decode().splitlines() if line.startswith("data: {")]
    assert texts == stream.events
    assert told.endswith(b"data: [DONE]\n\n")


def test_whoever_asks_for_what_is_not_theirs_gets_the_same_answer(calm: Rig) -> None:
    stream = Stream(body(12))
    asyncio.run(stream.follow(calm.ports[:1]))
    id, at, hash = stream.last_id.split(".")
    forged = [
        f"{id}.{at}.{'0' * 16}", f"{id}.9999.{hash}", f"{id[::-1]}.{at}.{hash}", "nonsense", f"{id}.0.{'0' * 16}",
        f"{id}.{at}-{at}.{hash}",
    ]  # fmt: skip
    answers = {ask(calm, 1, "POST", CHAT, None, Last_Event_ID=one)[::2] for one in forged}
    assert len(answers) == 1
    assert answers.pop()[0] == 404
    status, _, _ = ask(calm, 1, "POST", CHAT, body(13), Last_Event_ID=stream.last_id)
    assert status == 409


def test_a_repeat_joins_the_running_call_or_replays_it_on_any_gateway(calm: Rig) -> None:
    asked = body(0, stream=False)
    del asked["seed"]  # each run of it would be another answer
    with ThreadPoolExecutor(4) as pool:
        running = [
            pool.submit(ask, calm, number % 2, "POST", CHAT, asked, Idempotency_Key="same") for number in range(4)
        ]
        answers = [one.result() for one in running]
    assert [status for status, _, _ in answers] == [200] * 4
    assert len({answer for _, _, answer in answers}) == 1
    assert sum("idempotency-replayed" in headers for _, headers, _ in answers) == 3
    assert len({headers["x-request-id"] for _, headers, _ in answers}) == 1
    status, _, answer = ask(calm, 1, "POST", CHAT, {**asked, "max_tokens": 3}, Idempotency_Key="same")
    assert status == 409
    assert json.loads(answer)["error"]["code"] == "idempotency_key_reused"


def test_a_repeat_after_the_death_of_its_gateway_is_answered_once(rig: Rig) -> None:
    streams = [Stream(body(seed)) for seed in seeds(5, of=4)]

    async def run() -> None:
        tasks = [
            asyncio.create_task(stream.follow(rig.ports, Idempotency_Key=f"k{number}"))
            for number, stream in enumerate(streams)
        ]
        await asyncio.gather(*(stream.begun.wait() for stream in streams))
        kill_gateway(rig, 0)
        for number, stream in enumerate(streams):  # before it has resumed, its client asks once more
            status, headers, answer = await asyncio.to_thread(
                ask, rig, 1, "POST", CHAT, {**stream.body, "stream": True}, Idempotency_Key=f"k{number}",
                X_Cordee_Resumable="1",
            )  # fmt: skip
            assert (status, headers.get("idempotency-replayed")) == (200, "true"), (headers, answer[:500])
            texts = [json.loads(line[6:]) for line in answer.decode().splitlines() if line.startswith("data: {")]
            assert "".join(c["delta"].get("content") or "" for e in texts for c in e["choices"]) == oracle_text(
                stream.body["seed"], TOKENS
            )
        await asyncio.gather(*tasks)

    asyncio.run(run())
    for stream in streams:
        assert_whole(stream)


def test_every_gateway_knows_the_receipt_of_a_call(calm: Rig) -> None:
    status, headers, _ = ask(calm, 0, "POST", CHAT, body(21, max_tokens=5))
    assert status == 200
    path = f"/v1/calls/{headers['x-request-id']}"
    until(lambda: ask(calm, 1, "GET", path)[0] == 200, "the receipt to be shared")
    for gateway in (0, 1):
        receipt = json.loads(ask(calm, gateway, "GET", path)[2])
        assert (receipt["object"], receipt["status"], receipt["usage"]["completion_tokens"]) == ("call", "served", 5)
        assert receipt["replicas"][0].startswith("worker-")
        assert receipt["timings"]["total_s"] > 0
    assert ask(calm, 0, "GET", "/v1/calls/0123456789abcdef")[0] == 404


def test_tokens_are_charged_once_however_often_a_client_comes_back(calm: Rig) -> None:
    before = charged(calm)
    stream = Stream(body(31))

    async def run() -> None:
        task = asyncio.create_task(stream.follow(calm.ports))
        await stream.begun.wait()
        task.cancel()  # the client leaves
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.2)
        await stream._read(calm.ports[1], CHAT, {"Last-Event-ID": stream.last_id}, b"", 4, None)

    asyncio.run(run())
    assert_whole(stream)
    prompt = json.loads(ask(calm, 0, "POST", CHAT, body(32, max_tokens=1))[2])["usage"]["prompt_tokens"]
    until(lambda: charged(calm) - before == 2 * prompt + TOKENS + 1, "every token to be charged once")


def charged(rig: Rig) -> float:
    return rig.metric("cordee_tokens_total", 0) + rig.metric("cordee_tokens_total", 1)


def test_a_gateway_that_shuts_down_in_the_middle_of_streams_hands_them_over(tmp_path: Path, store: Valkey) -> None:
    settings = tmp_path / "cordee.toml"
    settings.write_text("[gateway]\ndrain_s = 0.2\n")
    with Rig(tmp_path, gateways=2, gateway_flags=("--store", store.url, "--config", str(settings))) as rig:
        streams = [Stream(body(seed, max_tokens=LONG)) for seed in seeds(10, of=5)]
        follow_all(streams, rig.ports, rig.gateways[0].terminate)
        for stream in streams:
            assert_whole(stream)
        assert rig.gateways[0].wait(20) == 0
        path = f"/v1/calls/{streams[0].stream_id}"
        until(lambda: json.loads(ask(rig, 1, "GET", path)[2]).get("status") == "served", "the receipt")
        receipt = json.loads(ask(rig, 1, "GET", path)[2])
        assert (receipt["status"], receipt["resumed"]) == ("served", 1)
        assert receipt["usage"]["completion_tokens"] == LONG


def test_without_a_store_a_stream_is_resumed_at_its_own_gateway(tmp_path: Path) -> None:
    with Rig(tmp_path) as rig:
        stream = Stream(body(41))

        async def run() -> None:
            task = asyncio.create_task(stream.follow(rig.ports))
            await stream.begun.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await stream._read(rig.ports[0], CHAT, {"Last-Event-ID": stream.last_id}, b"", 4, None)

        asyncio.run(run())
        assert_whole(stream)
