from __future__ import annotations

import asyncio
import datetime
import json
import ssl
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cordee.services.webhooks import sending
from cordee.services.webhooks.delivering import Deliverer
from cordee.services.webhooks.rules.addresses import networks
from cordee.services.webhooks.rules.schedule import Next, State, Tried
from cordee.services.webhooks.rules.target import Reach
from cordee.services.webhooks.sending import Limits, Sender
from cordee.services.webhooks.store import deliveries
from tests.services import on_both
from tests.services.webhooks.conftest import House, Receiver

pytestmark = pytest.mark.anyio
LIMITS = Limits(30.0, 30.0, 1000)
SHORT = Limits(0.3, 0.3, 1000)  # for who never answers


@on_both
async def test_an_event_is_delivered_once_signed_so_that_the_official_client_believes_it(
    house: House, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    made = await house.endpoint(receiver.url)
    for _ in range(3):
        await house.happens(1)
    assert await house.deliverer.once() == 1
    assert await house.deliverer.once() == 0
    (received,) = receiver.received
    assert received.line == "POST /hook?a=1 HTTP/1.1"
    assert received.headers["content-type"] == "application/json"
    monkeypatch.setattr("time.time", lambda: house.clock)
    event = house.official().webhooks.unwrap(received.body, received.headers, secret=made["signing_secret"])
    assert event.type == "batch.completed"
    assert event.data.id == f"batch_{1:032x}"
    assert event.id == received.headers["webhook-id"] == f"evt_{1:032x}"
    (delivery,) = await house.deliveries(made["id"])
    assert (delivery["state"], delivery["tries"], delivery["status_code"]) == ("delivered", 1, 204)


@on_both
async def test_what_is_not_taken_is_tried_again_until_the_last_time(house: House, receiver: Receiver):
    receiver.statuses = ["500 Broken", "302 Elsewhere\r\nlocation: http://127.0.0.1/", "503 Busy"]
    made = await house.endpoint(receiver.url)
    await house.happens()
    for wait_s, state in ((0, "waiting"), (10, "waiting"), (100, "failed")):
        house.clock += wait_s - 1 if wait_s else 0
        if wait_s:
            assert await house.deliverer.once() == 0
            house.clock += 1
        assert await house.deliverer.once() == 1
        assert (await house.deliveries(made["id"]))[0]["state"] == state
    assert {one.headers["webhook-id"] for one in receiver.received} == {f"evt_{1:032x}"}
    assert len(receiver.received) == 3
    (delivery,) = await house.deliveries(made["id"])
    assert (delivery["tries"], delivery["status_code"]) == (3, 503)
    receiver.statuses = ["200 OK"]
    anew = await house.ok("POST", f"/v1/webhook_endpoints/{made['id']}/deliveries/{delivery['id']}/redeliver")
    assert anew["state"] == "waiting"
    waits = await house.ask("POST", f"/v1/webhook_endpoints/{made['id']}/deliveries/{delivery['id']}/redeliver")
    assert waits.status_code == 409
    await house.deliverer.once()
    assert (await house.deliveries(made["id"]))[0]["state"] == "delivered"


@on_both
async def test_a_delivery_whose_process_died_is_repeated_by_another_when_its_time_is_over(
    house: House, receiver: Receiver
):
    made = await house.endpoint(receiver.url)
    await house.happens()
    dying = Deliverer(house.service)
    assert await dying._begin() == 1
    for task in dying._sending:
        task.cancel()
    await asyncio.gather(*dying._sending, return_exceptions=True)
    assert await house.deliverer.once() == 0
    house.clock += house.settings.lease_s + 1
    assert await house.deliverer.once() == 1
    assert (await house.deliveries(made["id"]))[0]["state"] == "delivered"


@on_both
async def test_who_was_silent_for_too_long_changes_nothing_any_more(house: House, receiver: Receiver):
    made = await house.endpoint(receiver.url)
    await house.happens()
    async with house.database.reading() as on:
        (one,) = await deliveries.due(on, house.clock, 1, 1)
    async with house.database.writing() as on:
        assert await deliveries.take_up(on, one, house.clock, house.clock + 10)
        assert not await deliveries.take_up(on, one, house.clock, house.clock + 10)
    house.clock += 11
    assert await house.deliverer.once() == 1
    async with house.database.writing() as on:
        assert not await deliveries.note(on, one, one.number + 1, Tried(500), Next(State.WAITING, 1.0), house.clock)
    (delivery,) = await house.deliveries(made["id"])
    assert (delivery["state"], delivery["tries"], delivery["status_code"]) == ("delivered", 1, 204)


@on_both
async def test_an_endpoint_that_only_fails_is_switched_off_and_comes_back_when_it_takes_a_sample(
    house: House, receiver: Receiver
):
    receiver.statuses = ["500 Broken"]
    made = await house.endpoint(receiver.url)
    for number in range(1, 3):
        await house.happens(number)
        await house.deliverer.once()
        house.clock += house.settings.disable_s
    await house.deliverer.once()
    path = f"/v1/webhook_endpoints/{made['id']}"
    shown = await house.ok("GET", path)
    assert shown["disabled_at"] is not None
    assert {one["state"] for one in await house.deliveries(made["id"])} == {"failed"}
    assert (await house.told())[-1] == "cordee.webhooks.endpoint.disabled"
    await house.happens(9)
    assert len(await house.deliveries(made["id"])) == 2
    receiver.statuses = ["200 OK"]
    tested = await house.official().webhooks.test(made["id"], event_type="batch.completed")
    assert (tested.status_code, tested.success) == (200, True)
    assert (await house.ok("GET", path))["disabled_at"] is None
    await house.happens(10)
    assert len(await house.deliveries(made["id"])) == 3


async def test_only_what_was_asked_for_and_is_ones_own_is_told(house: House, receiver: Receiver):
    made = await house.endpoint(receiver.url, "response.completed", "batch.failed")
    await house.happens(1, "batches.batch.completed")
    await house.happens(2, "chats.response.completed", subject="user_2")
    await house.happens(3, "chats.response.begun", subject="user_1")
    await house.happens(4, "chats.response.completed", subject="user_1")
    await house.happens(5, "batches.batch.failed")
    await house.happens(6, "files.file.created")
    assert [one["event_id"] for one in await house.deliveries(made["id"])] == [f"evt_{n:032x}" for n in (4, 5)]


async def test_a_slow_endpoint_does_not_stand_before_the_others(house: House, receiver: Receiver):
    for _ in range(2):
        await house.endpoint(receiver.url)
    for number in range(1, 10):
        await house.happens(number)
    await house.deliverer.once()
    by_id: dict[str, int] = {}
    for one in receiver.received:
        by_id[one.headers["webhook-id"]] = by_id.get(one.headers["webhook-id"], 0) + 1
    assert set(by_id.values()) == {2}
    assert len(by_id) == house.settings.deliveries_at_once_per_endpoint


async def test_while_an_old_secret_holds_both_sign(house: House, receiver: Receiver, monkeypatch: pytest.MonkeyPatch):
    made = await house.endpoint(receiver.url)
    new = await house.ok(
        "POST", f"/v1/webhook_endpoints/{made['id']}/rotate_secret", {"keep_old_secret_active_for_24_hours": True}
    )
    await house.happens()
    await house.deliverer.once()
    monkeypatch.setattr("time.time", lambda: house.clock)
    (received,) = receiver.received
    for secret in (made["signing_secret"], new["signing_secret"]):
        house.official().webhooks.unwrap(received.body, received.headers, secret=secret)
    house.clock += 86_401
    await house.happens(2)
    await house.deliverer.once()
    assert " " not in receiver.received[-1].headers["webhook-signature"]


async def test_a_name_is_looked_up_once_and_its_address_is_what_is_connected_to(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    asked: list[str] = []

    async def rebinding(host: str, port: int):
        asked.append(host)
        return (ip_address("127.0.0.1"),) if len(asked) == 1 else (ip_address("10.0.0.1"),)

    monkeypatch.setattr(sending, "look_up", rebinding)
    url = f"http://inside.example:{receiver.port}/x"
    allowed = Sender(Reach(frozenset({443}), networks(["127.0.0.1"])), LIMITS)
    assert (await allowed.send(url, {}, "{}")).status == 204
    assert asked == ["inside.example"]
    assert receiver.received[0].headers["host"] == f"inside.example:{receiver.port}"
    assert "not public" in (await allowed.send(url, {}, "{}")).why
    asked.clear()
    strict = Sender(Reach(frozenset({443}), ()), LIMITS)
    assert "not public" in (await strict.send("https://inside.example/", {}, "{}")).why
    assert len(receiver.received) == 1


async def test_a_server_that_is_silent_or_talks_for_ever_or_nonsense_is_left(house: House):
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 10_000)
                await writer.drain()
        except ConnectionError:
            writer.close()

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-x\r\n\r\n")
        writer.close()

    reach = Reach(frozenset({443}), networks(["127.0.0.1"]))
    for behave, limits, status in ((silent, SHORT, 0), (endless, LIMITS, 200), (nonsense, LIMITS, 0)):
        server = await asyncio.start_server(behave, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        tried = await Sender(reach, limits).send(f"http://127.0.0.1:{port}/", {}, "{}")
        assert tried.status == status
        assert bool(tried.why) is (status == 0)
        server.close()
    assert "refused" in (await Sender(reach, LIMITS).send(f"http://127.0.0.1:{port}/", {}, "{}")).why


async def test_a_certificate_that_nobody_trusts_is_not_spoken_to(tmp_path: Path):
    certificate = _certificate(tmp_path)
    strict = Sender(Reach(frozenset({443}), networks(["127.0.0.1"])), LIMITS)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    async with Receiver(server) as receiver:
        tried = await strict.send(receiver.url, {}, json.dumps({}))
        assert tried.status == 0
        assert "certificate" in tried.why
        assert receiver.received == []
        trusting = ssl.create_default_context(cafile=str(certificate))
        assert (await Sender(strict._reach, LIMITS, trusting).send(receiver.url, {}, "{}")).status == 204


def _certificate(directory: Path) -> Path:
    """For 127.0.0.1, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / "server.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path
