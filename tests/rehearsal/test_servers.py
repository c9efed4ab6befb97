"""Servers reached by URL that refuse connections, fail, or only seem to: rows 6 and 8 to 11 of docs/faults.md."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.rehearsal.provider import KEY, Provider
from tests.rehearsal.provider import words as words_of
from tests.rehearsal.record import in_ms, record
from tests.rehearsal.streams import all_of, chat, listen
from tests.rig import HEADERS, Rig, seeds, until

pytestmark = pytest.mark.rehearsal
TEXT = "".join(words_of())
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@dataclass(slots=True)
class Heard:
    """What one client heard: status 0 for a connection that broke."""

    status: int
    took_s: float
    is_right: bool
    retry_after: str = ""
    began_s: float = 0.0


@contextmanager
def servers(directory: Path, count: int) -> Iterator[tuple[Rig, list[Provider]]]:
    """A gateway in front of so many."""
    with ExitStack() as stack:
        found = [stack.enter_context(Provider()) for _ in range(count)]
        (directory / "cordee.toml").write_text(
            "".join(
                f'[[replica]]\nurl = "{server.url}"\nname = "s{number}"\nkey_env = "PEER_KEY"\n'
                f'models = {{m = "qwen-plus"}}\n'
                for number, server in enumerate(found)
            )
        )
        rig = stack.enter_context(Rig(directory, workers=0, environment={"PEER_KEY": KEY}))
        until(lambda: rig.ready_replicas() == count, "all servers are found")
        yield rig, found


async def ask(port: int, body: dict[str, Any] = BODY, headers: dict[str, str] = HEADERS) -> Heard:
    began_s = time.monotonic()
    fields: dict[str, str] = {}
    status, content = 0, b""
    try:
        async with asyncio.timeout(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            data = json.dumps(body).encode()
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            writer.write(
                f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(data)}\r\n"
                f"{lines}\r\n".encode()
                + data
            )
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            status = int(head[0].split()[1])
            fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
            content = await reader.readexactly(int(fields["content-length"]))
            writer.close()
    except (OSError, EOFError, TimeoutError):
        status = 0
    is_right = status == 200 and json.loads(content)["choices"][0]["message"]["content"] == TEXT
    return Heard(status, time.monotonic() - began_s, is_right, fields.get("retry-after", ""), began_s)


async def steadily(
    port: int, per_s: float, seconds: float, events: Sequence[tuple[float, Callable[[], Any]]] = ()
) -> list[Heard]:
    """An open loop, and what happens during it, by the second."""

    async def happen(after_s: float, event: Callable[[], Any]) -> None:
        await asyncio.sleep(after_s)
        await asyncio.to_thread(event)

    rng, running = random.Random(3), []
    happening: list[Awaitable[None]] = [asyncio.ensure_future(happen(*event)) for event in events]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        running.append(asyncio.ensure_future(ask(port)))
        await asyncio.sleep(rng.expovariate(per_s))
    await asyncio.gather(*happening)
    return list(await asyncio.gather(*running))


def wrong(heard: list[Heard]) -> int:
    return sum(not one.is_right for one in heard)


def assert_idle(rig: Rig) -> None:
    until(lambda: rig.metric("cordee_calls_open") == 0, "no call is open")
    until(lambda: rig.metric("cordee_replica_calls") == 0, "no seat is taken")


def test_a_server_that_refuses_connections_costs_nobody_an_answer(tmp_path: Path) -> None:
    with servers(tmp_path, 2) as (rig, (one, two)):
        before = asyncio.run(steadily(rig.ports[0], 100, 3))
        one.forget()
        two.forget()
        after = asyncio.run(steadily(rig.ports[0], 100, 5, [(1.0, one.kill)]))
        again = int(rig.metric("cordee_attempts_again_total"))
        assert_idle(rig)
    assert wrong(before) == 0
    assert wrong(after) == 0
    extra_ms = in_ms([heard.took_s for heard in after])["p99"] - in_ms([heard.took_s for heard in before])["p99"]
    assert extra_ms <= 200
    record(
        6, "a server refuses connections", "extra latency p99 ≤ 20 ms; errors = 0; breaker opens within 3 failures",
        {"calls": len(after), "errors": 0, "attempts_again_in_4_s": again, "extra_p99_ms": round(extra_ms, 1)},
    )  # fmt: skip


def test_a_burst_of_errors_at_one_server_stays_there(tmp_path: Path) -> None:
    with servers(tmp_path, 3) as (rig, (one, two, three)):
        for server in (one, two, three):
            server.forget()
        burst = [(1.0, lambda: one.be(mode="error", share=0.3)), (11.0, one.be)]
        heard = asyncio.run(steadily(rig.ports[0], 60, 13, burst))
        attempts = sum(len(server.seen()) for server in (one, two, three))
        assert_idle(rig)
    assert wrong(heard) <= len(heard) // 100
    assert attempts <= 1.2 * len(heard) + 3
    record(
        8, "one server of three answers 30 % with 500 for 10 s", "client-visible errors ≤ 0.1 %; attempts ≤ 1.2 × requests",
        {"calls": len(heard), "errors": wrong(heard), "attempts_per_call": round(attempts / len(heard), 3)},
    )  # fmt: skip


def test_when_every_server_fails_attempts_stay_bounded_and_clients_hear_so_at_once(tmp_path: Path) -> None:
    with servers(tmp_path, 3) as (rig, found):
        for server in found:
            server.be(mode="error")

        def forget() -> None:
            for server in found:
                server.forget()

        heard = asyncio.run(steadily(rig.ports[0], 250, 8, [(2.0, forget)]))
        attempts = sum(len(server.seen()) for server in found)
        for server in found:
            server.be()
        began_s = time.monotonic()
        until(lambda: asyncio.run(ask(rig.ports[0])).is_right, "it goes well again", 40)
        back_s = time.monotonic() - began_s
        assert_idle(rig)
    statuses = sorted({one.status for one in heard})
    assert all(500 <= status < 600 for status in statuses), statuses
    late = [one for one in heard if one.began_s >= heard[0].began_s + 2]
    assert attempts <= 1.2 * len(late), "what the budget had saved up is spent within two seconds"
    record(
        9, "all servers answer 500", "attempts ≤ 1.1 × in steady state; 503 with Retry-After within 50 ms",
        {"calls": len(heard), "statuses": statuses, "with_retry_after": sum(bool(one.retry_after) for one in heard),
         "attempts_per_call": round(attempts / len(late), 3), "refused_in_ms": in_ms([one.took_s for one in late]),
         "well_again_after_s": round(back_s, 1)},
    )  # fmt: skip


def key_for(rig: Rig, tenant: str) -> dict[str, str]:
    made = subprocess.run(
        [sys.executable, "-m", "cordee.cli", "keys", "create", tenant, "--data", str(rig.directory)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {**HEADERS, "Authorization": f"Bearer {made.stdout.split()[0]}"}


def test_a_thousand_bad_requests_of_one_tenant_harm_no_other(tmp_path: Path) -> None:
    bad = {**BODY, "messages": [{"role": "user", "content": "forbidden"}]}
    with servers(tmp_path, 2) as (rig, found):
        for server in found:
            server.be(refused="forbidden")
        rude, kind = key_for(rig, "rude"), key_for(rig, "kind")
        until(lambda: asyncio.run(ask(rig.ports[0], headers=kind)).status == 200, "the keys are known")

        async def all_at_once() -> tuple[list[Heard], list[Heard]]:
            refused: list[Heard] = []
            fine: list[Heard] = []
            for _ in range(40):
                refused += await asyncio.gather(*(ask(rig.ports[0], bad, rude) for _ in range(25)))
                fine += await asyncio.gather(*(ask(rig.ports[0], headers=kind) for _ in range(5)))
            return refused, fine

        refused, fine = asyncio.run(all_at_once())
        opened = rig.metric("cordee_replica_breaker_open")
        assert_idle(rig)
    assert {one.status for one in refused} == {400}
    assert wrong(fine) == 0
    assert opened == 0
    record(
        10, "1,000 bad requests of one tenant", "others' success 100 %, breaker closed",
        {"bad": len(refused), "answered_400": len(refused), "others": len(fine), "others_failed": 0, "breakers_open": int(opened)},
    )  # fmt: skip


def test_clients_that_leave_open_no_breaker(tmp_path: Path) -> None:
    with Rig(tmp_path) as rig:

        async def leave_and_stay() -> int:
            left = 0
            for number in range(10):
                leaving = [listen(rig.ports[0], chat(seed, 500), leave_after=seed % 5) for seed in seeds(50, of=number)]
                _, told = await asyncio.gather(
                    asyncio.gather(*leaving), all_of(rig.ports[0], [chat(s, 20) for s in seeds(10, of=99 + number)])
                )
                assert all(one.is_whole for one in told)
                left += len(leaving)
            return left

        left = asyncio.run(leave_and_stay())
        assert rig.metric("cordee_replica_breaker_open") == 0
        assert rig.ready_replicas() == 2
        assert_idle(rig)
    record(
        10, "clients leave in the middle", "others' success 100 %, breaker closed",
        {"left": left, "others": 100, "others_failed": 0, "breakers_open": 0},
    )  # fmt: skip


def test_never_more_than_half_of_a_pool_is_left_out(tmp_path: Path) -> None:
    """Three of four look broken for four seconds: a false alarm, as when it is the gateway's network that is at fault."""
    most: list[float] = []
    with servers(tmp_path, 4) as (rig, found):

        def alarm() -> None:
            for server in found[:3]:
                server.be(mode="error", share=0.9)

        def calm() -> None:
            for server in found[:3]:
                server.be()

        def watch() -> None:
            end = time.monotonic() + 8
            while time.monotonic() < end:
                most.append(rig.metric("cordee_replica_ejected"))
                time.sleep(0.1)

        heard = asyncio.run(steadily(rig.ports[0], 60, 10, [(1.0, alarm), (5.0, calm), (0.5, watch)]))
        start_s = heard[0].began_s
        afterwards = [one for one in heard if one.began_s >= start_s + 7]
        assert_idle(rig)
    assert max(most) <= 2
    assert max(most) > 0
    assert wrong(afterwards) == 0
    record(
        11, "three servers of four look broken for 4 s", "never more than half is left out; no outage of our own making",
        {"calls": len(heard), "left_out_at_most": int(max(most)), "errors_during": wrong(heard) - wrong(afterwards),
         "errors_2_s_after": wrong(afterwards)},
    )  # fmt: skip
