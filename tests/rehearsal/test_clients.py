"""Clients leave, read slowly, hold connections they do not use, flood, and all come back at once: rows 27 to 31 of docs/faults.md.
What one client does is paid by that client."""

from __future__ import annotations

import asyncio
import json
import selectors
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.test_edge import (
    Platform,
    Raw,
    continuation_flood,
    empty_data_flood,
    ping_flood,
    rapid_reset,
    settings_flood,
)
from tests.rehearsal.record import in_ms, record
from tests.rehearsal.steady import Steady, p99_s, took_s
from tests.rehearsal.streams import CHAT, Told, chat, listen
from tests.rig import HEADERS, Rig, end, seeds, until

pytestmark = pytest.mark.rehearsal
PER_S = 30
SLOTS = 4
STEP_S = 0.05
GRACE_S = 1.0
READERS = 1000
FULL_READERS = 200
SEGMENT = 536
IDLE = 5000
SLOW_HEADS = 50
HERD = 3000
FLOODS = (rapid_reset, continuation_flood, settings_flood, ping_flood, empty_data_flood)


@contextmanager
def rig_with(directory: Path, settings: str, workers: int = 1) -> Iterator[Rig]:
    file = directory / "cordee.toml"
    file.write_text(settings)
    flags = ("--config", str(file))
    with Rig(directory, workers=workers, worker_flags=flags, gateway_flags=flags) as rig:
        yield rig


def posted(asked: dict[str, Any], headers: dict[str, str] | None = None) -> bytes:
    content = json.dumps(asked).encode()
    lines = "".join(f"{name}: {value}\r\n" for name, value in {**HEADERS, **(headers or {})}.items())
    return f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n{lines}\r\n".encode() + content


def rss_kib(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 1024


def assert_nothing_is_left(rig: Rig) -> None:
    until(lambda: rig.metric("cordee_calls_open") == 0, "no call is left open")
    until(lambda: rig.metric("cordee_replica_calls") == 0, "no seat is left taken")


# -- 27: a client vanishes


def vanish(rig: Rig, how: str) -> tuple[float, int]:
    """All slots of the worker are taken by streams whose clients vanish at once. Returns how long it took until the next call had a
    token, and how many tokens still came for nobody."""
    headers = {"X-Cordee-Resumable": "1"} if how == "kept" else {}
    clients = []
    late = rig.metric("cordee_late_tokens_total")
    for seed in seeds(SLOTS):
        client = socket.create_connection(("127.0.0.1", rig.ports[0]), 10)
        client.sendall(posted(chat(seed, 2000), headers))
        clients.append(client)
    for client in clients:
        received = b""
        while received.count(b'"content"') < 3:
            received += client.recv(65536)
    waiting: list[Told] = []
    next_one = threading.Thread(target=lambda: waiting.append(asyncio.run(listen(rig.ports[0], chat(1, 2)))))
    next_one.start()
    until(lambda: rig.metric("cordee_calls_open") == SLOTS + 1 or not next_one.is_alive(), "the next call waits")
    gone_s = time.monotonic()
    for client in clients:
        if how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    next_one.join(20)
    assert waiting[0].is_whole, waiting[0].error
    assert_nothing_is_left(rig)
    return waiting[0].at_s[0] - gone_s, int(rig.metric("cordee_late_tokens_total") - late)


def test_a_worker_stops_within_a_step_when_its_client_vanishes_and_after_the_grace_if_it_may_come_back(
    tmp_path: Path,
) -> None:
    settings = f"[oracle]\nslots = {SLOTS}\ntoken_s = {STEP_S}\n[streams]\ngrace_s = {GRACE_S}\n"
    with rig_with(tmp_path, settings) as rig:
        times = {how: vanish(rig, how) for how in ("closed", "reset", "kept")}
    found: dict[str, Any] = {
        how: {"next_call_has_a_token_after_ms": round(1000 * took_s), "late_tokens": late}
        for how, (took_s, late) in times.items()
    }
    found |= {"clients": SLOTS, "step_ms": 1000 * STEP_S, "grace_s": GRACE_S}
    record(
        27,
        "clients vanish in the middle of streams",
        "worker stops <= 1 step after FIN or RST; kept: after the grace",
        found,
    )
    for how in ("closed", "reset"):
        assert times[how][0] < GRACE_S, found
        assert times[how][1] <= 2 * SLOTS, found
    assert GRACE_S * 0.5 < times["kept"][0] < GRACE_S + 5, found


def test_a_client_that_is_silently_gone_is_cut_off_at_the_time_limit(tmp_path: Path) -> None:
    """Its host is gone, or its reader is stuck: nothing is acknowledged to be read any more."""
    settings = "[oracle]\ntoken_s = 0.002\n[gateway]\nidle_timeout_s = 2\n"
    with rig_with(tmp_path, settings) as rig, closing(unread(rig.ports[0], chat(3, 60_000, n=8))):
        began_s = time.monotonic()
        until(lambda: rig.metric("cordee_calls_open") == 1, "the call is open")
        until(lambda: rig.metric("cordee_calls_open") == 0, "it is given up", 40)
        after_s = time.monotonic() - began_s
        assert_nothing_is_left(rig)
    found = {"given_up_after_s": round(after_s, 1), "idle_timeout_s": 2, "gathered_chars_max": 16384}
    record(27, "a client stops reading for ever", "worker stops <= write time-out", found)


def unread(port: int, asked: dict[str, Any]) -> socket.socket:
    """A stream whose client reads nothing, with as little room in the kernel as it gives."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)  # or the kernel would hold megabytes for it
    client.settimeout(10)
    client.connect(("127.0.0.1", port))
    client.sendall(posted(asked))
    return client


# -- 28: slow readers


class SlowReaders:
    """Streams of which a byte a second is read, in a thread of their own."""

    def __init__(self, port: int, count: int, asked: dict[str, Any]) -> None:
        self._ends = threading.Event()
        self.clients = [unread(port, {**asked, "seed": number}) for number in range(count)]
        self.cut = 0
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def close(self) -> None:
        self._ends.set()
        self._thread.join()
        for client in self.clients:
            client.close()

    def _read(self) -> None:
        for client in self.clients:
            client.setblocking(False)
        while not self._ends.wait(1):
            for client in self.clients:
                try:
                    client.recv(1)
                except BlockingIOError:
                    pass
                except OSError:
                    self.cut += 1


def beside_slow_readers(directory: Path, count: int, token_s: float, seconds: int, **more: Any) -> dict[str, Any]:
    """What they cost the gateway, and what others notice."""
    with rig_with(directory, f"[oracle]\ntoken_s = {token_s}\n") as rig:
        gateway = psutil.Process(rig.gateways[0].pid)
        with Steady(rig.ports[0], PER_S, 2) as calm:
            time.sleep(5)
        before_kib = most_kib = rss_kib(gateway)
        with closing(SlowReaders(rig.ports[0], count, chat(0, 2000, **more))) as slow:
            until(lambda: rig.metric("cordee_calls_open") == count, "all of them read", 60)
            with Steady(rig.ports[0], PER_S, 2) as meanwhile:
                for _ in range(seconds):
                    time.sleep(1)
                    most_kib = max(most_kib, rss_kib(gateway))
            cut_off = max(0, count - int(rig.metric("cordee_calls_open")))
            assert slow.cut <= cut_off
        assert_nothing_is_left(rig)
    assert calm.broken == meanwhile.broken == []
    assert p99_s(meanwhile.told) < 20 * p99_s(calm.told)
    return {
        "readers": count, "rss_kib_each": round((most_kib - before_kib) / count, 1), "cut_off": cut_off,
        "others_ms_before": in_ms(took_s(calm.told)), "others_ms_meanwhile": in_ms(took_s(meanwhile.told)),
    }  # fmt: skip


def test_a_thousand_slow_readers_cost_others_nothing_and_64_kib_each(tmp_path: Path) -> None:
    found = beside_slow_readers(tmp_path, READERS, 0.25, 25, n=4)
    record(28, "1,000 readers of a byte a second", "<= 64 KiB each, p99 of others <= 1.1 times", found)
    assert found["rss_kib_each"] <= 64, found


def test_slow_readers_of_logprobs_are_cut_off_before_they_hold_much(tmp_path: Path) -> None:
    found = beside_slow_readers(tmp_path, FULL_READERS, 0.1, 12, n=4, logprobs=True, top_logprobs=5)
    record(28, "200 readers of a byte a second, with logprobs", "<= 64 KiB each, p99 of others <= 1.1 times", found)
    assert found["cut_off"] == FULL_READERS, "they were not full: nothing was shown"
    assert found["rss_kib_each"] <= 64, found


# -- 29: idle connections, slowloris


def test_thousands_of_idle_connections_cost_little_and_slow_heads_are_refused_in_time(tmp_path: Path) -> None:
    with Rig(tmp_path, workers=1) as rig:
        port, gateway = rig.ports[0], psutil.Process(rig.gateways[0].pid)
        with Steady(port, PER_S) as calm:
            time.sleep(5)
        before_kib = rss_kib(gateway)
        idle = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(IDLE)]
        try:
            until(lambda: bool(rig.get("/healthz")), "all are accepted")
            with Steady(port, PER_S) as meanwhile:
                refused = slow_heads(port, SLOW_HEADS)
            each_kib = (rss_kib(gateway) - before_kib) / IDLE
        finally:
            for client in idle:
                client.close()
        assert_nothing_is_left(rig)
    found = {
        "idle_connections": IDLE, "rss_kib_each": round(each_kib, 2), "slow_heads": SLOW_HEADS,
        "told_408": sum(status == b"408" for status, _ in refused),
        "closed_after_s": round(max(after_s for _, after_s in refused), 1),
        "others_ms_before": in_ms(took_s(calm.told)), "others_ms_meanwhile": in_ms(took_s(meanwhile.told)),
    }  # fmt: skip
    record(29, "5,000 idle connections, 50 heads a byte a second", "<= 20 KiB each, p99 <= 2 times, 408 <= 10 s", found)
    assert calm.broken == meanwhile.broken == []
    assert each_kib <= 20, found
    assert found["told_408"] == SLOW_HEADS, found
    assert max(after_s for _, after_s in refused) < 13, found
    assert p99_s(meanwhile.told) < 10 * p99_s(calm.told), found


def slow_heads(port: int, count: int) -> list[tuple[bytes, float]]:
    """Requests whose heads come a byte a second and never end: what each is told, and after how many seconds it is closed."""
    told: list[tuple[bytes, float]] = []
    began_s = next_s = time.monotonic()
    with selectors.DefaultSelector() as selector:
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", port), 10)
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\nX-Slow: ")
            selector.register(client, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < began_s + 30:
            for key, _ in selector.select(0.1):
                client = key.fileobj  # type: ignore[assignment]
                told.append((client.recv(4096)[9:12], time.monotonic() - began_s))
                selector.unregister(client)
                client.close()
            if time.monotonic() >= next_s:
                next_s += 1
                for key in list(selector.get_map().values()):
                    key.fileobj.send(b"a")  # type: ignore[union-attr]
    return told


# -- 30: floods of HTTP/2


def test_floods_of_frames_end_their_own_connections_and_others_do_not_notice(tmp_path: Path) -> None:
    platform = Platform(tmp_path)
    found: dict[str, Any] = {}
    try:
        platform.until_ready()
        with platform.client() as other:

            def ask(times: int) -> list[float]:
                return [other.get("/v1/models").raise_for_status().elapsed.total_seconds() for _ in range(times)]

            ask(20)
            calm = ask(100)
            for flood in FLOODS:
                ended: list[float] = []

                def run(flood: Any = flood, ended: list[float] = ended) -> None:
                    raw, began_s = Raw(platform), time.monotonic()
                    raw.socket.settimeout(5)
                    flood(raw)
                    if raw.closed():
                        ended.append(time.monotonic() - began_s)

                thread = threading.Thread(target=run)
                thread.start()
                meanwhile = ask(20)
                while thread.is_alive():
                    meanwhile += ask(5)
                assert ended, f"{flood.__name__} is put up with"
                found[flood.__name__] = {"closed_after_ms": round(1000 * ended[0]), "others_ms": in_ms(meanwhile)}
            found["calm_ms"] = in_ms(calm)
    finally:
        end(platform.up)
    record(30, "floods of HTTP/2 frames at the edge", "closed after <= 200 resets, others unaffected", found)
    assert all(found[flood.__name__]["others_ms"]["p99"] < 1000 for flood in FLOODS), found


# -- 31: a thundering herd


def test_three_thousand_clients_come_back_within_a_second_and_all_are_answered(tmp_path: Path) -> None:
    """They hold connections to a gateway that dies; when it is back, all ask at once, again after 50 to 100 ms when refused."""
    with Rig(tmp_path, workers=2) as rig:
        port = rig.ports[0]
        with Steady(port, PER_S) as calm:
            time.sleep(4)
        held = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(HERD)]
        rig.gateways[0].kill()
        rig.gateways[0].wait()
        for client in held:
            client.close()
        rig.gateways[0] = rig._start_gateway(0)
        back_s, told, tries = asyncio.run(herd(port))
        until(lambda: rig.ready_replicas() == 2, "both workers")
        with Steady(port, PER_S) as after:
            time.sleep(4)
        assert_nothing_is_left(rig)
    ended_s = [one.at_s[-1] - back_s for one in told if one.is_whole]
    found = {
        "clients": HERD, "answered": len(ended_s), "tries": tries,
        "last_answer_after_s": round(max(ended_s), 2),
        "others_ms_before": in_ms(took_s(calm.told)), "others_ms_after": in_ms(took_s(after.told)),
    }  # fmt: skip
    record(31, "3,000 clients reconnect within a second", "no second collapse, >= 95 % goodput in <= 10 s", found)
    assert len(ended_s) == HERD, found
    assert calm.broken == after.broken == []
    assert max(ended_s) < 30, found


async def herd(port: int) -> tuple[float, list[Told], int]:
    """When the gateway was first there, what each client was told in the end, and how often they asked altogether."""
    tries = 0
    back_s: list[float] = []

    async def one(number: int) -> Told:
        nonlocal tries
        await asyncio.sleep(number / HERD)
        while True:
            tries += 1
            told = await listen(port, chat(5_000_000 + number, 3))
            if told.status:
                back_s.append(told.asked_s)
            if told.is_whole or told.dones:
                return told
            assert tries < 100 * HERD, told.error
            await asyncio.sleep(0.05 + 0.05 * (number % 10) / 10)

    told = await asyncio.gather(*map(one, range(HERD)))
    return min(back_s), list(told), tries
