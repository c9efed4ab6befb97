"""The door to real gateways: on behalf of callers, past gateways that die, with every event exactly once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cordee.config.sections.services import Asking
from cordee.services.base.door import Asked, DoorError, RefusedError
from cordee.services.base.gateways import DONE, Gateways
from cordee.wire.vouch import Vouched
from tests.gateway.passage.test_through import Services
from tests.rig import Rig, oracle_text
from tests.valkey import Valkey

pytestmark = [pytest.mark.e2e, pytest.mark.anyio]
ADMIN = Vouched("admin", "admin", "", frozenset({"inference"}))
STRANGER = Vouched("admin", "nobody", "", frozenset({"inference"}))
PATH = "/v1/chat/completions"
TOKENS, SEED = 150, 4711
ORACLE = {"CORDEE_ORACLE_TOKEN_S": "0.03"}  # the answer is still under way when its gateway is found and killed
SETTINGS = Asking(pause_s=0.05)


def body(**more: Any) -> dict[str, Any]:
    message = {"role": "user", "content": "hello"}
    return {
        "model": "oracle", "messages": [message], "seed": SEED, "max_tokens": TOKENS, "ignore_eos": True, **more,
    }  # fmt: skip


def text_of(events: list[bytes]) -> str:
    return "".join(
        choice["delta"].get("content") or "" for event in events for choice in msgspec.json.decode(event)["choices"]
    )


@pytest.fixture
def placed(tmp_path: Path) -> Iterator[tuple[Rig, Services]]:
    services = Services(tmp_path)
    services.start(0)
    try:
        with (
            Valkey(tmp_path) as valkey,
            Rig(
                tmp_path, gateways=2, environment=ORACLE, gateway_flags=("--store", valkey.url, *services.flags)
            ) as rig,
        ):
            yield rig, services
    finally:
        services.stop(0)


@pytest.fixture
async def door(placed: tuple[Rig, Services]) -> AsyncIterator[Gateways]:
    rig, _ = placed
    secret = (rig.directory / "services" / "internal.secret").read_bytes()
    door = Gateways([f"127.0.0.1:{port}" for port in rig.ports], secret, time.time, SETTINGS)
    yield door
    await door.close()


async def test_a_stream_goes_on_at_another_gateway_with_every_event_once(placed, door):
    rig, _ = placed
    events: list[bytes] = []
    asked = Asked("POST", PATH, body(stream=True), key="once")
    async with door.stream(ADMIN, asked) as stream:
        async for event in stream:
            if event.data == DONE:
                break
            events.append(event.data)
            if len(events) == 20:
                killed = [number for number in (0, 1) if rig.metric("cordee_calls_open", number)]
                assert len(killed) == 1
                rig.gateways[killed[0]].kill()
                rig.gateways[killed[0]].wait()
        else:
            raise AssertionError("the stream has no end")
    assert text_of(events) == oracle_text(SEED, TOKENS)
    assert len(events) == TOKENS + 2  # the first one with the role, the last one with the end

    # The same key again gets the same answer, at the gateway that is left.
    async with door.stream(ADMIN, asked) as stream:
        again = [event.data async for event in stream]
    assert again[-1] == DONE
    assert text_of(again[:-1]) == oracle_text(SEED, TOKENS)

    whole = await door.ask(ADMIN, Asked("POST", PATH, body(max_tokens=5)))
    assert whole.status == 200
    assert msgspec.json.decode(whole.body)["choices"][0]["message"]["content"].split() == oracle_text(SEED, 5).split()

    for gateway in rig.gateways:
        gateway.kill()
        gateway.wait()
    with pytest.raises(DoorError, match="ask again later"):
        await door.ask(ADMIN, Asked("POST", PATH, body(), timeout_s=1.0))


async def test_what_the_door_asks_is_refused_and_answered_as_it_is(placed, door):
    _, services = placed
    with pytest.raises(RefusedError) as refused:
        async with door.stream(ADMIN, Asked("POST", PATH, body(stream=True, model="none"))):
            pass
    assert refused.value.status == 404
    assert (await door.ask(STRANGER, Asked("POST", PATH, body()))).status == 401
    forger = Gateways([door._bases[0].removeprefix("http://")], b"x" * 32, time.time, SETTINGS)
    assert (await forger.ask(ADMIN, Asked("POST", PATH, body()))).status == 401
    await forger.close()

    # Other services, by the same door: who asks is vouched for anew.
    async with door.fetch(ADMIN, Asked("GET", "/v1/files/big?mib=3")) as pieces:
        assert sum([len(piece) async for piece in pieces]) == 3 << 20
    with pytest.raises(RefusedError) as refused:
        async with door.fetch(ADMIN, Asked("GET", "/v1/files/none")):
            pass
    assert refused.value.status == 404

    async def pieces_of_a_body() -> AsyncIterator[bytes]:
        for _ in range(32):
            yield b"x" * 65_536

    whole = await door.ask(ADMIN, Asked("POST", "/v1/files", pieces_of_a_body()))
    assert msgspec.json.decode(whole.body)["size"] == 32 * 65_536

    # Leaving before the end is heard by whoever answers.
    with pytest.raises(DoorError):
        await door.ask(ADMIN, Asked("GET", "/v1/files/wait", timeout_s=3.0))
    async with asyncio.timeout(30):
        while "left" not in services.notes.read_text():
            await asyncio.sleep(0.05)
