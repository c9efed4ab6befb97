"""One key, many askers: requests that may be repeated are asked twice at once, at two gateways, while something dies. Whatever
comes back under one key is one answer; requests have no seed of their own, so that a second run would be seen at once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.rehearsal.record import record
from tests.rig import KEY, Rig, until
from tests.valkey import Valkey

pytestmark = pytest.mark.rehearsal
PAIRS = 100
SPREAD_S = 1.0  # over which the keys are asked
TOKENS = 40
ASKED = (
    "never two answers under one key while the store lives; with the store away the answer says that its key is local"
)
TRIES_MAX = 40
PAUSE_S = 0.25
AGAIN = (409, 500, 502, 503)  # the first request still runs, or what it needs is away: come back


@dataclass
class Asker:
    """A client that asks until it has an answer, at one gateway after another."""

    key: str
    text: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    refused: list[int] = field(default_factory=list)

    async def ask(self, ports: list[int]) -> None:
        body = {
            "model": "oracle",
            "messages": [{"role": "user", "content": self.key}],
            "max_tokens": TOKENS,
            "ignore_eos": True,
        }
        for number in range(TRIES_MAX):
            try:
                status, headers, answer = await _post(ports[number % len(ports)], json.dumps(body).encode(), self.key)
            except (OSError, asyncio.IncompleteReadError, IndexError):
                await asyncio.sleep(PAUSE_S)
                continue
            if status == 200:
                self.headers, self.text = headers, json.loads(answer)["choices"][0]["message"]["content"]
                return
            self.refused.append(status)
            assert status in AGAIN, (status, answer)
            await asyncio.sleep(PAUSE_S)
        raise AssertionError(f"{self.key}: no answer after {TRIES_MAX} requests, refused with {self.refused}")

    @property
    def is_local(self) -> bool:
        return self.headers.get("x-cordee-idempotency") == "local"


async def _post(port: int, body: bytes, key: str) -> tuple[int, dict[str, str], bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer {KEY}\r\n"
            f"Content-Type: application/json\r\nIdempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        status = int((await reader.readline()).split()[1])
        headers: dict[str, str] = {}
        while line := (await reader.readline()).decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, await reader.readexactly(int(headers["content-length"]))
    finally:
        writer.close()


async def all_askers(rig: Rig, event: Callable[[], None] | None) -> list[list[Asker]]:
    """Every key is asked at both gateways at the same moment, one key after another; the event happens among them, and in the
    middle of the answers to others. When all have theirs, every key is asked once more at each gateway that lives."""
    here, there = rig.ports
    keys = [[Asker(f"key-{number}"), Asker(f"key-{number}")] for number in range(PAIRS)]
    asking: list[asyncio.Task[None]] = []
    for number, (one, other) in enumerate(keys):
        if event is not None and number == PAIRS // 2:
            event()
        asking += [asyncio.create_task(one.ask([here, there])), asyncio.create_task(other.ask([there, here]))]
        await asyncio.sleep(SPREAD_S / PAIRS)
    await asyncio.wait_for(asyncio.gather(*asking), 40)
    living = [port for port, process in zip(rig.ports, rig.gateways, strict=True) if process.poll() is None]
    for askers in keys:
        askers += [Asker(askers[0].key) for _ in living]
    again = [asker.ask([port]) for askers in keys for asker, port in zip(askers[2:], living, strict=True)]
    await asyncio.wait_for(asyncio.gather(*again), 20)
    return keys


def different(keys: list[list[Asker]]) -> list[str]:
    """Keys under which two answers were given that did not say that they hold at one gateway only."""
    return [askers[0].key for askers in keys if len({one.text for one in askers if not one.is_local}) > 1]


def measured(keys: list[list[Asker]]) -> dict[str, Any]:
    return {
        "keys": len(keys),
        "two_answers": len(different(keys)),
        "replayed": sum("idempotency-replayed" in one.headers for askers in keys for one in askers),
        "local": sum(one.is_local for askers in keys for one in askers),
        "asked_again": sum(len(one.refused) for askers in keys for one in askers),
    }


def rehearse(tmp_path: Path, fault: str, event: Callable[[Rig, Valkey], None] | None) -> list[list[Asker]]:
    settings = tmp_path / "cordee.toml"
    settings.write_text("[oracle]\ntoken_s = 0.02\n[idempotency]\nwait_s = 10\n")
    flags = ("--config", str(settings))
    with Valkey(tmp_path) as store, Rig(
        tmp_path, gateways=2, worker_flags=flags, gateway_flags=("--store", store.url, *flags)
    ) as rig:  # fmt: skip
        keys = asyncio.run(all_askers(rig, (lambda: event(rig, store)) if event is not None else None))
        print(fault, measured(keys))
        record(34, f"one key at two gateways at once: {fault}", ASKED, measured(keys))
        assert different(keys) == []
        living = [number for number, process in enumerate(rig.gateways) if process.poll() is None]
        until(lambda: all(rig.metric("cordee_replica_calls", one) == 0 for one in living), "the seats to be free")
        return keys


def test_a_key_that_is_asked_at_two_gateways_at_once_has_one_answer(tmp_path: Path) -> None:
    keys = rehearse(tmp_path, "nothing fails", None)
    assert sum("idempotency-replayed" in one.headers for askers in keys for one in askers) == 3 * PAIRS


def test_a_key_whose_gateway_is_killed_in_the_middle_has_one_answer(tmp_path: Path) -> None:
    def kill(rig: Rig, store: Valkey) -> None:
        rig.gateways[0].kill()
        rig.gateways[0].wait()

    rehearse(tmp_path, "a gateway is killed", kill)


def test_a_key_whose_worker_is_killed_in_the_middle_has_one_answer(tmp_path: Path) -> None:
    rehearse(tmp_path, "a worker is killed", lambda rig, store: void(rig.kill_worker(0)))


def test_keys_asked_while_the_store_is_killed_have_one_answer_or_say_that_they_are_local(tmp_path: Path) -> None:
    rehearse(tmp_path, "the store is killed", lambda rig, store: store.kill())


def test_keys_asked_while_the_store_is_frozen_for_a_moment_have_one_answer_or_say_so(tmp_path: Path) -> None:
    def freeze(rig: Rig, store: Valkey) -> None:
        os.kill(store.process.pid, signal.SIGSTOP)
        asyncio.get_running_loop().call_later(0.4, os.kill, store.process.pid, signal.SIGCONT)

    rehearse(tmp_path, "the store is frozen for 0.4 s", freeze)


def void(_: object) -> None: ...
