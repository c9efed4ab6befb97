"""Gateways are killed, frozen, restarted, starved of descriptors and kept busy for minutes, and clients keep their answers: rows 18
to 26 of docs/faults.md. Real processes behind the real edge where it matters, the oracle engine, every token checked."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.compose.test_platform import Running, gone
from tests.rehearsal.record import in_ms, record
from tests.rehearsal.steady import Steady, p99_s, took_s
from tests.rehearsal.streams import CHAT, Told, chat, during, listen
from tests.resuming import Stream
from tests.rig import HEADERS, PATIENCE_S, Rig, oracle_text, seeds, until
from tests.valkey import Valkey

pytestmark = pytest.mark.rehearsal
TOKENS = 160
SLOW_TOKENS = (
    "[oracle]\ntoken_s = 0.04\n"  # a pace that hundreds of streams and their clients keep up with on two cores
)
PER_S = 40  # requests beside the fault
OPEN_FILES = 256
SOAK_S = float(os.environ.get("CORDEE_SOAK_S", "180"))


# -- 18, 19: resumable streams


@contextmanager
def two_gateways(directory: Path, settings: str = SLOW_TOKENS) -> Iterator[Rig]:
    file = directory / "cordee.toml"
    file.write_text(settings)
    flags = ("--config", str(file))
    with (
        Valkey(directory) as store,
        Rig(directory, gateways=2, worker_flags=flags, gateway_flags=("--store", store.url, *flags)) as rig,
    ):
        yield rig


def follow_through(rig: Rig, count: int, event: Callable[[], None]) -> list[Stream]:
    """So many resumable streams; the event comes when every one has begun."""
    streams = [
        Stream({name: value for name, value in chat(seed, TOKENS).items() if name != "stream"}) for seed in seeds(count)
    ]

    async def run() -> None:
        tasks = [asyncio.create_task(stream.follow(rig.ports)) for stream in streams]
        await asyncio.wait_for(asyncio.gather(*(stream.begun.wait() for stream in streams)), 30)
        event()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)

    asyncio.run(run())
    return streams


def figures(streams: list[Stream]) -> dict[str, Any]:
    resumed_s = [stream.resumed_s[-1] for stream in streams if stream.resumed_s]
    texts = [(oracle_text(stream.body["seed"], TOKENS), stream) for stream in streams]
    return {
        "streams": len(streams),
        "resumed": len(resumed_s),
        "whole": sum(
            s.text == right and s.done == 1 and s.finishes == ["length"] and not s.restarts for right, s in texts
        ),
        "lost": sum(s.text != right and right.startswith(s.text) for right, s in texts),
        "wrong_or_doubled": sum(
            not right.startswith(s.text) or s.done > 1 or len(s.finishes) > 1 for right, s in texts
        ),
        "resumed_within_ms": in_ms(resumed_s),
    }


def assert_all_whole(found: dict[str, Any]) -> None:
    assert (found["whole"], found["lost"], found["wrong_or_doubled"]) == (found["streams"], 0, 0), found
    assert found["resumed"] > 0, found


def assert_nothing_is_left(rig: Rig, gateway: int = 0) -> None:
    until(lambda: rig.metric("cordee_calls_open", gateway) == 0, "no call is left open")
    until(lambda: rig.metric("cordee_replica_calls", gateway) == 0, "no seat is left taken")


def kill_gateway(rig: Rig, number: int) -> None:
    rig.gateways[number].kill()
    rig.gateways[number].wait()


def test_three_hundred_streams_of_a_killed_gateway_go_on_at_the_other(tmp_path: Path) -> None:
    with two_gateways(tmp_path) as rig:
        found = figures(follow_through(rig, 300, lambda: kill_gateway(rig, 0)))
        assert_nothing_is_left(rig, 1)
    record(
        18, "a gateway is killed under 300 resumable streams", "all resumed, lost = doubled = 0, p99 <= 500 ms", found
    )
    assert_all_whole(found)
    assert found["resumed"] == 300
    assert found["resumed_within_ms"]["p99"] < 5000


def test_streams_go_on_when_a_gateway_and_a_worker_die_together(tmp_path: Path) -> None:
    with two_gateways(tmp_path) as rig:

        def kill_both() -> None:
            rig.kill_worker(0)
            kill_gateway(rig, 0)

        found = figures(follow_through(rig, 100, kill_both))
        assert_nothing_is_left(rig, 1)
    record(
        19,
        "a gateway and a worker are killed together under 100 streams",
        "resumed or an explicit error, wrong = 0",
        found,
    )
    assert_all_whole(found)


# -- 20 to 22: behind the edge


class Platform(Running):
    """The whole platform behind its edge, in the clear, ready."""

    def __init__(self, home: Path) -> None:
        (home / "data").mkdir()
        super().__init__(home / "data")

    @property
    def key(self) -> str:
        return (self.data / "admin.key").read_text().strip()

    def steady(self) -> Steady:
        return Steady(int(self.web.rpartition(":")[2]), PER_S, key=self.key)

    def address(self, name: str) -> int:
        one = next(one for one in self.status()["processes"] if one["name"] == name)
        return int(one["address"].rpartition(":")[2])

    def replaced(self, name: str, before: int) -> bool:
        """Ready again, with another process of that name."""
        status = self.status()
        now = {one["name"]: int(one["pid"]) for one in status["processes"]}
        return bool(status["state"] == "ready") and now[name] != before


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    with Platform(tmp_path) as running:
        yield running


def served_by(port: int) -> float:
    """Calls that the gateway there has served."""
    with closing(socket.create_connection(("127.0.0.1", port), 5)) as connection:
        connection.sendall(b"GET /metrics HTTP/1.0\r\nHost: h\r\n\r\n")
        page = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    lines = [line for line in page.splitlines() if line.startswith("cordee_calls_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if 'outcome="served"' in line)


def test_the_web_address_is_served_by_mobile_gateways_while_no_web_gateway_lives(platform: Platform) -> None:
    mobile = [platform.address("mobile-1"), platform.address("mobile-2")]
    before = sum(map(served_by, mobile))
    pids = {name: pid for name, pid in platform.pids().items() if name.startswith("web-")}
    with platform.steady() as load:
        time.sleep(3)
        killed_s = time.monotonic()
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        assert gone(pids, 5.0) == {}
        closed_s = time.monotonic()  # whoever asked before may have been with one of them
        time.sleep(4)
    calm, after = load.between(0, killed_s - 0.2), load.between(closed_s, closed_s + 4)
    taken_over = sum(map(served_by, mobile)) - before
    found = {
        "asked_after_the_deaths": len(after),
        "failed_of_them": sum(not one.is_whole for one in after),
        "broken_that_were_under_way": len(load.broken),
        "served_by_mobile_gateways": taken_over,
        "extra_ms_p99": round(1000 * (p99_s(after) - p99_s(calm)), 1),
    }
    record(20, "all web gateways are killed, the web address is served by mobile ones", "p99 extra <= 100 ms", found)
    assert found["failed_of_them"] == 0, load.broken
    assert len(load.broken) <= PER_S / 4, load.broken
    assert taken_over > 0, "the web gateways were back before anybody asked: nothing was shown"
    assert found["extra_ms_p99"] < 1000


def test_requests_leave_a_frozen_gateway_within_about_a_second(platform: Platform) -> None:
    pid = platform.pids()["web-1"]
    with platform.steady() as load:
        time.sleep(2)
        os.kill(pid, signal.SIGSTOP)
        stopped_s = time.monotonic()
        time.sleep(4)
        os.kill(pid, signal.SIGCONT)
        time.sleep(1)
    stuck = [
        one for one in load.between(stopped_s - 1, stopped_s + 4) if one.is_whole and one.at_s[-1] - one.asked_s > 1
    ]
    left = load.between(stopped_s + 1.5, stopped_s + 4)
    left_within_s = max((one.asked_s for one in stuck), default=stopped_s) - stopped_s
    found = {
        "asked": len(load.told),
        "failed": len(load.broken),
        "left_within_s": round(left_within_s, 2),
        "waited_for_it": len(stuck),
        "ms_once_they_had_left": in_ms(took_s(left)),
    }
    record(21, "a web gateway is frozen for four seconds", "requests leave it within 1 s", found)
    assert load.broken == []
    assert stuck, "nobody met the frozen gateway: nothing was shown"
    assert left_within_s < 2
    assert p99_s(left) < 1


@pytest.mark.timeout(180)
def test_no_request_fails_while_every_gateway_and_worker_is_restarted_one_after_the_other(platform: Platform) -> None:
    pids = platform.pids()
    names = sorted(name for name in pids if name.startswith(("web-", "mobile-", "worker-")))
    with platform.steady() as load:
        time.sleep(3)
        began_s = time.monotonic()
        for name in names:
            os.kill(pids[name], signal.SIGTERM)
            until(lambda name=name: platform.replaced(name, pids[name]), f"{name} is back")
        ended_s = time.monotonic()
        time.sleep(3)
    calm = [*load.between(0, began_s), *load.between(ended_s, ended_s + 3)]
    within = load.between(began_s, ended_s)
    found = {
        "restarted": len(names),
        "seconds": round(ended_s - began_s, 1),
        "asked": len(load.told),
        "failed": len(load.broken),
        "calm_ms": in_ms(took_s(calm)),
        "meanwhile_ms": in_ms(took_s(within)),
    }
    record(22, "every gateway and worker is restarted in turn", "failed = refused = 0, p99 <= 1.5 times", found)
    assert load.broken == []
    assert len(within) > 100
    assert p99_s(within) < 20 * max(0.05, p99_s(calm)), "a new process starts on the clients' own processors"


# -- 24: descriptors


@contextmanager
def open_files(soft: int) -> Iterator[None]:
    """Processes started within have no more descriptors."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def connect(port: int, count: int) -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", port), 5) for _ in range(count)]


def answers(sockets: list[socket.socket]) -> list[bytes]:
    """What each is told on asking, b"" where its connection was dropped."""
    told = []
    for one in sockets:
        one.settimeout(5)
        try:
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
            told.append(one.recv(4096)[9:12])
        except OSError:
            told.append(b"")
    return told


def answers_in_turn(sockets: list[socket.socket]) -> tuple[list[bytes], int]:
    """All ask at once; whoever is answered leaves, and makes room for who waits. What each is told, b"" where its connection was
    dropped, and how many had to wait: who was not answered in the first second."""
    told: list[bytes] = []
    began_s, waited = time.monotonic(), 0
    with selectors.DefaultSelector() as selector:
        for one in sockets:
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
            selector.register(one, selectors.EVENT_READ)
        first: list[socket.socket] = []
        while selector.get_map() and time.monotonic() - began_s < PATIENCE_S:
            for key, _ in selector.select(0.1):
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                selector.unregister(ready)
                try:
                    told.append(ready.recv(4096)[9:12])
                except OSError:
                    told.append(b"")
                first.append(ready)
            if time.monotonic() - began_s > 1:
                waited = waited or len(selector.get_map())
                for answered in first:
                    answered.close()
    return told, waited


def test_without_descriptors_open_streams_go_on_and_accepting_resumes_by_itself(tmp_path: Path) -> None:
    with open_files(OPEN_FILES):
        rig = Rig(tmp_path, workers=1)
    with rig:
        gateway = psutil.Process(rig.gateways[0].pid)
        began = [chat(seed, 600) for seed in seeds(10)]  # six seconds
        told: dict[str, list[bytes]] = {}
        had_to_wait = [0]

        async def exhaust() -> None:
            await asyncio.to_thread(crowd)

        def crowd() -> None:
            many = connect(rig.ports[0], OPEN_FILES)  # more than it may have
            told["beyond its own limit"] = answers(many)
            for one in many:
                one.close()
            until(lambda: rig.metric("cordee_calls_open") == len(began), "the crowd is gone")
            gateway.rlimit(psutil.RLIMIT_NOFILE, (gateway.num_fds() + 5, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            some = connect(rig.ports[0], 50)
            told["without descriptors"], had_to_wait[0] = answers_in_turn(some)
            for one in some:
                one.close()
            until(lambda: bool(rig.get("/healthz")), "it accepts again")

        heard = asyncio.run(during(rig.ports[0], began, 1.0, exhaust))
        assert_nothing_is_left(rig)
    beyond, without = told["beyond its own limit"], told["without descriptors"]
    found = {
        "streams": len(heard), "whole": sum(one.is_whole for one in heard), "open_files": OPEN_FILES,
        "beyond_its_own_limit": {"answered": beyond.count(b"200"), "told_503": beyond.count(b"503"), "dropped": beyond.count(b"")},
        "without_descriptors": {"answered": without.count(b"200"), "waited": had_to_wait[0], "dropped": without.count(b"")},
    }  # fmt: skip
    record(24, "no descriptors are left", "open streams unaffected, accepting resumes by itself", found)
    assert [one.error for one in heard if not one.is_whole] == []
    assert beyond.count(b"503") > 0
    assert beyond.count(b"200") >= OPEN_FILES // 2
    assert had_to_wait[0] > 0, "there were descriptors enough: nothing was shown"
    assert without == [b"200"] * 50


# -- 25, 26: memory and the event loop


def kinds_of_call(number: int) -> tuple[dict[str, Any], dict[str, str], int]:
    """Body, headers, and after how many tokens the client leaves."""
    seed = 7_000_000 + number
    bodies: tuple[tuple[dict[str, Any], dict[str, str], int], ...] = (
        (chat(seed, 20), {}, -1),
        (chat(seed, 20), {"X-Cordee-Resumable": "1"}, -1),
        (chat(seed, 5), {"Idempotency-Key": f"k{number}"}, -1),
        (chat(seed, 50), {}, 3),
        (chat(seed, 20, temperature=-5), {}, -1),
        (chat(seed, 20, messages=[{"role": "user", "content": "x" * 20_000}]), {}, -1),
        (chat(seed, 20, n=3), {}, -1),
        (chat(seed, 20, model="nobody"), {}, -1),
    )
    return bodies[number % len(bodies)]


async def mixed(port: int, seconds: float, look: Callable[[float], None]) -> list[Told]:
    began_s = time.monotonic()
    running: list[asyncio.Task[Told]] = []
    number = 0
    while (passed_s := time.monotonic() - began_s) < seconds:
        look(passed_s)
        body, headers, leave_after = kinds_of_call(number)
        running.append(asyncio.create_task(listen(port, body, headers, leave_after)))
        number += 1
        await asyncio.sleep(max(0.0, began_s + number / PER_S - time.monotonic()))
    return list(await asyncio.gather(*running))


@pytest.mark.timeout(600)
def test_memory_is_flat_under_minutes_of_mixed_calls(tmp_path: Path) -> None:
    settings = "[receipts]\ncalls_max = 500\nkeep_s = 20\n[streams]\nkeep_s = 10\n[idempotency]\nkeep_s = 10\n"
    seen: list[tuple[float, int]] = []
    with two_gateways(tmp_path, settings) as rig:
        gateway = psutil.Process(rig.gateways[0].pid)

        def look(passed_s: float) -> None:
            if passed_s - (seen[-1][0] if seen else -1) >= 1:
                seen.append((passed_s, gateway.memory_info().rss))

        heard = asyncio.run(mixed(rig.ports[0], SOAK_S, look))
        assert_nothing_is_left(rig)
    third = [rss for at_s, rss in seen if SOAK_S / 3 <= at_s < SOAK_S / 2]
    last = [rss for at_s, rss in seen if at_s >= SOAK_S * 5 / 6]
    drift = sum(last) / len(last) / (sum(third) / len(third)) - 1
    refused = sum(one.status in (400, 404) for one in heard)
    found = {
        "seconds": SOAK_S, "calls": len(heard), "refused_as_they_should_be": refused,
        "rss_mib_after_warm_up": round(third[0] / 2**20, 1), "rss_mib_at_the_end": round(last[-1] / 2**20, 1),
        "drift_percent": round(100 * drift, 2),
    }  # fmt: skip
    record(
        25,
        "minutes of mixed calls, bad ones and leaving clients among them",
        "RSS flat, drift <= 2 % in an hour",
        found,
    )
    assert refused == len(range(4, len(heard), 8)) + len(range(7, len(heard), 8))
    assert drift < 0.05, found


def lag_p99_s(rig: Rig, before: dict[float, float]) -> tuple[float, float]:
    """The bound that 99 of 100 timers kept since `before`, and how many there were."""
    counts = {bound: count - before[bound] for bound, count in lag_buckets(rig).items()}
    total = counts[float("inf")]
    return next(bound for bound, count in sorted(counts.items()) if count >= 0.99 * total), total


def lag_buckets(rig: Rig) -> dict[float, float]:
    name = 'cordee_loop_lag_seconds_bucket{le="'
    lines = [line for line in rig.get("/metrics").splitlines() if line.startswith(name)]
    return {float(line[len(name) :].split('"')[0]): float(line.rsplit(" ", 1)[1]) for line in lines}


WORDS = "The quick brown fox jumps over the lazy dog, and nobody knows why it would. "
LARGE: dict[str, dict[str, Any]] = {
    "long prompts": {"messages": [{"role": "user", "content": WORDS * 1500}]},  # 110 KB
    "large bodies": {"messages": [{"role": "user", "content": "x"}], "user": "u" * 500, "metadata": {"k": "v" * 500},
                     "logit_bias": {str(token): 1 for token in range(300)}, "stop": ["zzz", "yyy"]},
    "chats of a thousand messages": {
        "messages": [{"role": ("user", "assistant")[n % 2], "content": WORDS} for n in range(1001)]
    },
}  # fmt: skip


@pytest.mark.parametrize("model", ["oracle", pytest.param("smollm2-135m-instruct", marks=pytest.mark.model)])
def test_the_event_loop_is_not_held_up_by_large_requests(tmp_path: Path, model: str) -> None:
    per_s, seconds = 5, 5
    found: dict[str, Any] = {"model": model, "per_s": per_s}
    with Rig(tmp_path, model, workers=1) as rig:
        for what, more in LARGE.items():
            body = {"model": model, "max_tokens": 1, **more}
            before, began_s = lag_buckets(rig), time.monotonic()

            async def ask(body: dict[str, Any] = body) -> list[int]:
                running = []
                for _ in range(per_s * seconds):
                    running.append(asyncio.create_task(status_of(rig.ports[0], body)))
                    await asyncio.sleep(1 / per_s)
                return list(await asyncio.gather(*running))

            statuses = asyncio.run(ask())
            p99, timers = lag_p99_s(rig, before)
            found[what] = {
                "body_kib": len(json.dumps(body)) // 1024, "statuses": sorted(set(statuses)), "lag_p99_ms_at_most": 1000 * p99,
                "seconds": round(time.monotonic() - began_s, 1), "timers": int(timers),
            }  # fmt: skip
            assert set(statuses) <= {200, 400}, found
    record(26, f"large requests, tokenised for {model}", "lag of the event loop p99 <= 20 ms", found)
    assert all(found[what]["lag_p99_ms_at_most"] <= 200 for what in LARGE), found


async def status_of(port: int, body: dict[str, Any]) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        content = json.dumps(body).encode()
        lines = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
        writer.write(
            f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n{lines}\r\n".encode() + content
        )
        return int((await reader.readline()).split()[1])
    finally:
        writer.close()
