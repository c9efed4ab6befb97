"""Workers that die, freeze, babble, lie, or are of another kind: rows 1 to 7 and 12 to 17 of docs/faults.md, with our own workers."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bench.failover import Streams, rounds, takeovers
from tests.e2e.test_poison import POISON, revive
from tests.rehearsal.record import in_ms, record
from tests.rehearsal.relay import Relayed
from tests.rehearsal.streams import Told, all_of, chat, during, listen
from tests.rig import PATIENCE_S, Rig, oracle_text, seeds, until

pytestmark = pytest.mark.rehearsal
WHOLE = "lost, doubled, wrong = 0"


def assert_all_whole(told: list[Told]) -> None:
    bad = [(one.status, one.error, one.finishes, one.dones, len(one.at_s)) for one in told if not one.is_whole]
    assert not bad, f"{len(bad)} of {len(told)}: {bad[:3]}"


def assert_idle(rig: Rig) -> None:
    """Nothing stays in use, at the gateway or at a worker."""
    until(lambda: rig.metric("cordee_calls_open") == 0, "no call is open")
    until(lambda: rig.metric("cordee_replica_calls") == 0, "no seat is taken")
    assert rig.metric("cordee_queue_length") == 0


def many(count: int, tokens: int, of: int) -> list[dict[str, Any]]:
    return [chat(seed, tokens) for seed in seeds(count, of=of)]


def slow_pool(tmp_path: Path, **more: Any) -> Rig:
    return Rig(tmp_path, environment={"CORDEE_LOG_LEVEL": "debug", **more.pop("environment", {})}, **more)


@pytest.mark.parametrize(
    ("how", "count", "row", "within_s"), [(signal.SIGKILL, 40, 1, 0.1), (signal.SIGSTOP, 50, 3, 0.15)]
)
@pytest.mark.timeout(240)
def test_no_token_is_lost_or_doubled_in_row(
    tmp_path: Path, how: signal.Signals, count: int, row: int, within_s: float
) -> None:
    """The same as `python -m bench.failover`, which can be asked for any number."""
    with slow_pool(tmp_path) as rig:
        clients = Streams(rig, 24)
        try:
            time.sleep(0.5)
            signals = rounds(rig, how, count)
        finally:
            clients.stop()
        assert (clients.lost, clients.wrong) == (0, 0), clients.errors[:3]
        took = takeovers(rig, signals)
        assert len(took) >= count, "few streams were where the signals went"
        # calls without a token when their worker died are tried apart first (docs/attempts.md), which takes longer
        at_once = [one for one in took if one <= within_s]
        assert len(at_once) >= 0.8 * len(took)
        late = int(rig.metric("cordee_late_tokens_total"))
        assert late > 0 or how is signal.SIGKILL, "what a frozen worker said later was dropped"
        assert_idle(rig)
    fault = {signal.SIGKILL: "kill -9 of a worker mid-stream", signal.SIGSTOP: "a worker freezes, and comes back"}[how]
    measured = {
        "signals": count, "answers_whole": clients.served, "lost": clients.lost, "wrong": clients.wrong,
        "takeovers": len(took), "takeover_ms": in_ms(took), "later_than_asked": len(took) - len(at_once),
        "late_tokens_dropped": late,
    }  # fmt: skip
    record(row, fault, f"{WHOLE}; takeover p99 ≤ {within_s * 1000:.0f} ms", measured)


@pytest.mark.parametrize("heard", [0, 1, 19, 20])
def test_a_death_at_any_token_leaves_one_end(tmp_path: Path, heard: int) -> None:
    """Before the first token, after it, before the last one and with it: 60 streams in step, all at the same token."""
    pace = {"CORDEE_ORACLE_FIRST_TOKEN_S": "0.2", "CORDEE_ORACLE_TOKEN_S": "0.1"}
    with slow_pool(tmp_path, environment=pace) as rig:

        async def scenario() -> list[Told]:
            delay_s = 0.12 if heard == 0 else 0.2 + 0.1 * (heard - 1) + 0.04
            return await during(
                rig.ports[0], many(60, 20, heard + 1), delay_s, lambda: asyncio.to_thread(rig.kill_worker, 0)
            )

        told = asyncio.run(scenario())
        assert_all_whole(told)
        assert_idle(rig)
        moved = int(rig.metric("cordee_takeover_seconds_count"))
    assert moved > 0 or heard == 20
    record(
        1, f"kill -9 when {heard} of 20 tokens are out", f"{WHOLE}; one finish",
        {"streams": len(told), "moved": moved, "whole": sum(one.is_whole for one in told),
         "finishes": sum(len(one.finishes) for one in told)},
    )  # fmt: skip


VARIANTS: list[dict[str, Any]] = [
    {"n": 3},
    {"stop": ["STOP"]},  # replaced by one of the answer's own words
    {"logprobs": True, "top_logprobs": 3},
    {"presence_penalty": 0.7, "frequency_penalty": -0.4},
    {"temperature": 0.8, "top_p": 0.9, "logit_bias": {"7": 5}},
    {"ignore_eos": False, "max_tokens": 400},
    {"n": 2, "logprobs": True, "stop": ["STOP"], "stream_options": {"include_usage": True}},
]


def test_answers_of_every_kind_are_byte_for_byte_what_they_are_without_a_death(tmp_path: Path) -> None:
    asked = []
    for number, seed in enumerate(seeds(42, of=21)):
        variant = dict(VARIANTS[number % len(VARIANTS)])
        if "stop" in variant:
            variant["stop"] = [oracle_text(seed, 80).split()[60]]
        asked.append({**chat(seed, 80), **variant})
    with slow_pool(tmp_path) as rig:

        async def ask() -> list[Told]:
            return list(await asyncio.gather(*(listen(rig.ports[0], one, keep=True) for one in asked)))

        async def kill_among() -> list[Told]:
            running = asyncio.ensure_future(ask())
            await asyncio.sleep(0.45)
            await asyncio.to_thread(rig.kill_worker, 0)
            return await running

        undisturbed = asyncio.run(ask())
        disturbed = asyncio.run(kill_among())
        moved = int(rig.metric("cordee_takeover_seconds_count"))
        assert_idle(rig)
    assert moved >= len(VARIANTS), "too few were on the worker that died"
    equal = sum(words(one) == words(other) for one, other in zip(undisturbed, disturbed, strict=True))
    assert equal == len(asked)
    assert not any(one.error for one in disturbed)
    record(
        2, "kill -9 with n > 1, stop strings, log-probabilities, penalties, bias, own end",
        "byte-equal to the undisturbed run", {"answers": len(asked), "moved": moved, "byte_equal": equal},
    )  # fmt: skip


def words(told: Told) -> list[str]:
    """Everything a client was told, by choice and in order, but for id and time. Choices of different workers may take turns
    in another order."""
    told_of: dict[int, list[str]] = {}
    for event in told.events:
        if event.get("usage"):
            told_of.setdefault(-1, []).append(json.dumps(event["usage"], sort_keys=True))
        for choice in event["choices"]:
            told_of.setdefault(choice["index"], []).append(json.dumps(choice, sort_keys=True))
    return [json.dumps(told_of[index]) for index in sorted(told_of)]


def test_a_busy_machine_is_hardly_ever_taken_for_a_frozen_worker(tmp_path: Path) -> None:
    """As many processes that only compute as twice the cores, beside 200 streams at a time."""
    cores = len(os.sched_getaffinity(0))
    with slow_pool(tmp_path) as rig:
        burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * cores)]
        try:
            told: list[Told] = []
            for number in range(5):
                told += asyncio.run(all_of(rig.ports[0], many(200, 50, 300 + number)))
        finally:
            for burner in burners:
                burner.kill()
                burner.wait()
        assert_all_whole(told)
        moved = int(rig.metric("cordee_takeover_seconds_count"))
        suspected = rig.log("gateway-1").count("is suspected")
        assert moved <= len(told) // 10
    record(
        3, "a busy machine, nothing frozen", "≤ 0.1 % of the streams moved in vain",
        {"streams": len(told), "busy_processes": 2 * cores, "suspicions": suspected, "moved_in_vain": moved},
    )  # fmt: skip


def test_a_connection_that_swallows_everything_is_left_and_made_anew(tmp_path: Path) -> None:
    """Half-open: both ends hold it for good, nothing passes. Then the relay itself stands still."""
    stalls: list[float] = []
    with Relayed(tmp_path, environment={"CORDEE_LOG_LEVEL": "debug"}) as rig:

        async def break_by(event: Any, of: int) -> None:
            cut_s = 0.0

            async def cut() -> None:
                nonlocal cut_s
                cut_s = time.monotonic()
                await asyncio.to_thread(event)

            told = await during(rig.ports[0], many(60, 80, of), 0.4, cut)
            assert_all_whole(told)
            stalls.extend(one.stall_s(cut_s) for one in told)

        asyncio.run(break_by(lambda: rig.be(0, "swallow"), 41))
        until(lambda: rig.ready_replicas() == 1, "the silent worker is not used")
        asyncio.run(
            asyncio.sleep(7.5)
        )  # long enough for the connection to be given up, and for the next one to be swallowed too
        rig.be(0, "ok")
        healed_s = time.monotonic()
        rig.wait_ready()
        back_s = time.monotonic() - healed_s
        asyncio.run(break_by(lambda: os.kill(rig.relays[1].pid, signal.SIGSTOP), 42))
        os.kill(rig.relays[1].pid, signal.SIGCONT)
        rig.wait_ready()
        moved = int(rig.metric("cordee_takeover_seconds_count"))
        assert_idle(rig)
    assert moved > 0
    assert max(stalls) < 2.0
    record(
        5, "the connection to a worker swallows everything, then stands still", f"{WHOLE}; as row 3",
        {"streams": len(stalls), "moved": moved, "client_gap_ms": in_ms(stalls), "back_after_s": round(back_s, 1)},
    )  # fmt: skip


BABBLE = ("garbage", "half", "long", "kind", "finish", "token", "again", "skip", "close")


def test_no_garbled_token_reaches_a_client_whatever_a_worker_sends(tmp_path: Path) -> None:
    heard: dict[str, int] = {}
    with Relayed(tmp_path, environment={"CORDEE_LOG_LEVEL": "debug"}) as rig:
        for number, manner in enumerate(BABBLE):
            rig.wait_ready()

            async def babble(manner: str = manner) -> None:
                rig.be(0, manner)
                if manner == "close":
                    os.kill(rig.workers[0].pid, signal.SIGKILL)
                    rig.workers[0].wait()

            told = asyncio.run(during(rig.ports[0], many(40, 60, 70 + number), 0.3, babble))
            assert_all_whole(told)
            heard[manner] = len(told)
            rig.be(0, "ok")
            if manner == "close":
                rig.restart_worker(0)
        rig.wait_ready()
        assert_idle(rig)
        log = rig.log("gateway-1")
    assert "Traceback" not in log, log[log.index("Traceback") :][:2000]
    record(
        7, "a worker sends " + ", ".join(BABBLE), "garbled tokens at a client = 0",
        {"streams": sum(heard.values()), "garbled": 0, "kinds_of_nonsense": len(heard)},
    )  # fmt: skip


def test_a_slow_worker_gets_little_of_what_is_new(tmp_path: Path) -> None:
    """One of three is ten times slower than the others, from its start on."""
    with slow_pool(tmp_path, workers=3, environment={"CORDEE_ROUTING_SLOW_START_S": "0"}) as rig:
        healthy = steady(rig, 5.0)
        healthy = [one for one in healthy if one.asked_s >= healthy[0].asked_s + 2]
        rig.kill_worker(2)
        until(lambda: rig.ready_replicas() == 2, "the killed worker is gone")
        rig.restart_worker(2, {"CORDEE_ORACLE_TOKEN_S": "0.1", "CORDEE_ORACLE_FIRST_TOKEN_S": "0.1"})
        rig.wait_ready()
        began_s = time.monotonic()
        told = steady(rig, 8.0)
        assert_all_whole(healthy + told)
        late = [one for one in told if one.asked_s >= began_s + 2]
        there = sum(receipt(rig, one)["replicas"][-1] == "worker-3" for one in late)
        assert_idle(rig)
    part = there / len(late) / (1 / 3)
    assert part <= 0.5
    record(
        4, "one worker of three is ten times slower",
        "≤ 1/5 of its fair share of what is new after 2 s; first token p99 ≤ 1.5 × that of a sound pool",
        {"calls_after_2_s": len(late), "of_fair_share": round(part, 3), "first_token_ms": in_ms([one.first_s for one in late]),
         "first_token_ms_sound_pool": in_ms([one.first_s for one in healthy])},
    )  # fmt: skip


def steady(rig: Rig, seconds: float, per_s: float = 60, tokens: int = 10) -> list[Told]:
    """An open loop: so many calls a second, however long they take."""

    async def run() -> list[Told]:
        rng, running = random.Random(seconds), []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            running.append(asyncio.ensure_future(listen(rig.ports[0], chat(rng.getrandbits(40), tokens))))
            await asyncio.sleep(rng.expovariate(per_s))
        return list(await asyncio.gather(*running))

    return asyncio.run(run())


def receipt(rig: Rig, told: Told) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(rig.get(f"/v1/calls/{told.id}"))
    return found


MANY_DEATHS = {"CORDEE_QUARANTINE_TENANT_DEATHS_MAX": "100"}  # all is of one tenant here


def test_a_poisonous_request_costs_two_workers_and_no_other_answer(tmp_path: Path) -> None:
    innocents, rounds_count = 50, 3
    deaths_of: list[int] = []
    refused_s: list[float] = []
    with Rig(tmp_path, environment={"CORDEE_ORACLE_POISON": POISON, **MANY_DEATHS}) as rig:
        for number in range(rounds_count):
            deaths: list[int] = []
            over = threading.Event()
            nurse = threading.Thread(target=revive, args=(rig, deaths, over))
            nurse.start()
            body = {"model": "oracle", "prompt": f"say {POISON} {number}", "max_tokens": 20, "seed": 7}
            found: list[tuple[int, Any]] = []

            async def poison(body: dict[str, Any] = body, found: list[tuple[int, Any]] = found) -> None:
                found.append(await asyncio.to_thread(rig.post, "/v1/completions", body))

            try:
                told = asyncio.run(during(rig.ports[0], many(innocents, 150, 120 + number), 0.1, poison))
                assert_all_whole(told)
                assert found[0][0] == 422, found
                for again in range(10):
                    began_s = time.monotonic()
                    assert rig.post("/v1/completions", {**body, "seed": again})[0] == 422
                    refused_s.append(time.monotonic() - began_s)
                rig.wait_ready()
            finally:
                over.set()
                nurse.join()
            deaths_of.append(len(deaths))
        assert_idle(rig)
    assert max(deaths_of) <= 3, "a death on a busy machine can look like a freeze at first, which accuses nobody"
    record(
        12, "a request that kills every worker it is given to",
        "≤ 2 deaths; other answers lost = 0; then 422 within 10 ms",
        {"rounds": rounds_count, "deaths": deaths_of, "innocents": innocents * rounds_count, "innocents_lost": 0,
         "refused_in_ms": in_ms(refused_s)},
    )  # fmt: skip


def test_a_prompt_that_cannot_fit_is_refused_before_a_worker_hears_of_it(tmp_path: Path) -> None:
    with Rig(tmp_path, worker_flags=("--context", "2048")) as rig:
        refused = 0
        for size in (2_049, 3_000, 50_000, 1_000_000):
            for seed in range(10):
                status, answer = rig.post(
                    "/v1/completions", {"model": "oracle", "prompt": "a" * size * 4, "seed": seed}
                )
                refused += status == 400 and answer["error"]["code"] == "context_length_exceeded"
        assert refused == 40
        assert rig.metric("cordee_attempts_again_total") == 0
        assert all(worker.poll() is None for worker in rig.workers)
        assert_all_whole(asyncio.run(all_of(rig.ports[0], many(10, 30, 130))))
    record(13, "prompts beyond the context", "≥ 99 % refused at admission", {"asked": 40, "refused_with_400": refused})


def test_an_engine_that_stops_under_a_sound_process_is_out_of_rotation(tmp_path: Path) -> None:
    with slow_pool(tmp_path, environment={"CORDEE_CANARY_INTERVAL_S": "2", "CORDEE_CANARY_DEAD_S": "4"}) as rig:
        rig.kill_worker(1)
        until(lambda: rig.ready_replicas() == 1, "the killed worker is gone")
        rig.restart_worker(1, {"CORDEE_ORACLE_STUCK_FROM": "4"})
        rig.wait_ready()
        out_s: list[float] = []

        async def watch() -> None:
            began_s = time.monotonic()
            await asyncio.to_thread(until, lambda: rig.ready_replicas() == 1, "the stuck worker is left out")
            out_s.append(time.monotonic() - began_s)

        told = asyncio.run(during(rig.ports[0], many(40, 30, 140), 0.05, watch))
        assert_all_whole(told)
        assert rig.workers[1].poll() is None
        assert_idle(rig)
    assert out_s[0] <= 4.0
    slowest_s = max(one.at_s[-1] - one.asked_s for one in told)
    record(
        14, "an engine stops, its process beats on", f"out of rotation within 2 s; {WHOLE}",
        {"streams": len(told), "out_of_rotation_s": round(out_s[0], 2), "slowest_answer_s": round(slowest_s, 1)},
    )  # fmt: skip


def test_half_of_the_workers_die_at_once_under_four_hundred_streams(tmp_path: Path) -> None:
    pace = {"CORDEE_ORACLE_FIRST_TOKEN_S": "0.1", "CORDEE_ORACLE_TOKEN_S": "0.05"}
    with slow_pool(tmp_path, workers=4, environment=pace) as rig:
        stalls: dict[int, list[float]] = {}
        for dead in (1, 2):
            rig.wait_ready()
            killed_s = [0.0]

            async def kill(dead: int = dead, killed_s: list[float] = killed_s) -> None:
                killed_s[0] = time.monotonic()
                for number in range(dead):
                    os.kill(rig.workers[number].pid, signal.SIGKILL)

            told = asyncio.run(during(rig.ports[0], many(400, 80, 150 + dead), 2.0, kill))
            assert_all_whole(told)
            stalls[dead] = [one.stall_s(killed_s[0]) for one in told]
            for number in range(dead):
                rig.workers[number].wait()
                rig.restart_worker(number)
        moved = int(rig.metric("cordee_takeover_seconds_count"))
        assert_idle(rig)
    assert moved >= 200
    one, two = in_ms(stalls[1]), in_ms(stalls[2])
    assert two["p99"] <= 4 * one["p99"] + 500
    record(
        15, "two of four workers die at once, 400 streams", "lost = 0; p99 stall ≤ 2 × that of a single death",
        {"streams": 400, "lost": 0, "moved": moved, "stall_ms_one_death": one, "stall_ms_two_deaths": two},
    )  # fmt: skip


def broken_models() -> dict[str, bytes]:
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    return {
        "empty": b"",
        "not-gguf": b"PK\x03\x04" + bytes(4096),
        "truncated": head + struct.pack("<Q", 20) + b"general.archi",
        "absurd-counts": b"GGUF" + struct.pack("<IQQ", 3, 1 << 62, 1 << 62) + bytes(4096),
        "absurd-string": head + struct.pack("<Q", 1 << 60) + bytes(4096),
        "noise": b"GGUF" + struct.pack("<I", 3) + random.Random(5).randbytes(65536),
    }


def test_a_corrupt_model_file_is_refused_in_words_and_hurts_nobody_else(tmp_path: Path) -> None:
    refused_s = []
    environment = {
        name: value for name, value in os.environ.items() if name != "CORDEE_RECORD"
    }  # no setting of a worker
    with Rig(tmp_path) as rig:
        for name, content in broken_models().items():
            path = tmp_path / f"{name}.gguf"
            path.write_bytes(content)
            began_s = time.monotonic()
            listen_at = f"unix:{tmp_path}/{name}.sock"
            ended = subprocess.run(
                [sys.executable, "-m", "cordee.cli", "worker", "--listen", listen_at, "--model", str(path), "--data", str(tmp_path)],
                capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=environment,
            )  # fmt: skip
            refused_s.append(time.monotonic() - began_s)
            said = ended.stdout + ended.stderr
            assert ended.returncode in (1, 2), (name, ended.returncode, said[-500:])
            assert f"{name}.gguf" in said, (name, said[-500:])
            assert "Traceback" not in said, (name, said[-1500:])
        assert rig.ready_replicas() == 2
        assert_all_whole(asyncio.run(all_of(rig.ports[0], many(10, 30, 160))))
    record(
        16, "a model file that is corrupt", "refuses to serve, in words; nobody else is hurt",
        {"files": len(refused_s), "refused": len(refused_s), "ended_by_a_signal": 0, "refused_in_s": round(max(refused_s), 1)},
    )  # fmt: skip


def test_an_answer_is_never_gone_on_with_by_a_worker_of_another_kind(tmp_path: Path) -> None:
    with slow_pool(tmp_path) as rig:
        rig.kill_worker(1)
        until(lambda: rig.ready_replicas() == 1, "the killed worker is gone")
        rig.restart_worker(1, {"CORDEE_ORACLE_CONTEXT": "32768"})
        rig.wait_ready()

        async def replace() -> None:
            await asyncio.to_thread(rig.kill_worker, 0)
            await asyncio.sleep(1)  # in which only the worker of the other kind is there
            await asyncio.to_thread(rig.restart_worker, 0)

        told = asyncio.run(during(rig.ports[0], many(60, 80, 170), 0.5, replace))
        assert_all_whole(told)
        receipts = [receipt(rig, one) for one in told]
        assert_idle(rig)
    moved = sum(one["attempts"] > 1 for one in receipts)
    spliced = sum(len(one["replicas"]) > 1 for one in receipts)
    assert moved > 0
    assert spliced == 0
    record(
        17, "only a worker of another fingerprint is left", "spliced across fingerprints = 0",
        {"streams": len(told), "gone_on_after_1_s_at_an_equal_one": moved, "spliced": spliced},
    )  # fmt: skip
