from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import select

from cordee.config.sections.services import Events, EventsTls
from cordee.services.base.broker import Broker, MemoryBroker, NotHeardError, open_broker
from cordee.services.base.broker_tls import TlsError, context
from cordee.services.base.cloudevents import read, written
from cordee.services.base.outbox import Event
from tests.brokers import KINDS, NoBrokerError, Server
from tests.services.base.behind_tls import Papers, behind_tls
from tests.services.base.listener import database_in, effects, metadata

pytestmark = pytest.mark.anyio
PATIENCE_S = 40.0
RESTART_S = 5.0  # what a killed broker was asked is asked again after this
SUBJECTS = 3


def event(number: int, subject: int | None = None) -> Event:
    about = number % SUBJECTS if subject is None else subject
    return Event(
        f"event_{number:032x}",
        "cordee/test",
        f"cordee.test.n{number}",
        f"thing_{about}",
        "tenant_1",
        1000.5,
        json.dumps({"a": "é"}),
    )


def by_subject(events: Sequence[Event]) -> dict[str, list[str]]:
    """The first time that each came, in order."""
    found: dict[str, list[str]] = defaultdict(list)
    for one in events:
        if one.id not in found[one.subject]:
            found[one.subject].append(one.id)
    return dict(found)


async def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.02)


async def publish(broker: Broker, events: Sequence[Event], patience_s: float = PATIENCE_S) -> None:
    """As a relay does: what is not taken is asked again, before anything behind it. Asked again too early, it comes twice."""
    for one in events:
        while True:
            try:
                async with asyncio.timeout(patience_s):
                    await broker.publish(one)
                break
            except Exception:
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def consuming(broker: Broker, take: Callable[[Event], Awaitable[None]]):
    task = asyncio.create_task(broker.consume("webhooks", take))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_in_one_process_an_event_waits_until_its_consumers_are_there():
    broker, heard = MemoryBroker(["webhooks"]), list[Event]()
    with pytest.raises(NotHeardError):
        await broker.publish(event(1))

    async def take(one: Event) -> None:
        heard.append(one)

    async with consuming(broker, take):
        await asyncio.sleep(0)
        await broker.publish(event(1))
    assert heard == [event(1)]
    with pytest.raises(NotHeardError):
        await broker.publish(event(2))


async def test_in_one_process_an_event_that_a_consumer_refuses_is_not_kept():
    broker = MemoryBroker()

    async def refuse(one: Event) -> None:
        raise KeyError

    async with consuming(broker, refuse):
        await asyncio.sleep(0)
        with pytest.raises(KeyError):
            await broker.publish(event(1))


def test_an_event_comes_out_of_its_envelope_as_it_went_in():
    assert read(written(event(7))) == event(7)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", written(event(1)).replace(b'"1.0"', b'"2.0"')], ids=repr)
def test_what_is_no_event_of_ours_is_said_to_be_none(body: bytes):
    with pytest.raises(ValueError, match="event"):
        read(body)


TLS_SCHEMES = {"amqp": "amqps", "kafka": "kafkas", "redis": "rediss"}


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


def test_a_file_that_cannot_be_used_is_named(papers: Papers, tmp_path: Path):
    missing, nonsense = tmp_path / "missing.pem", tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    for path in (missing, nonsense):
        with pytest.raises(TlsError, match=f"services.events.tls.ca {path} cannot be used: "):
            context(EventsTls(ca=str(path)))
        with pytest.raises(TlsError, match=f"services.events.tls.certificate {path} with services.events.tls.key"):
            context(EventsTls(ca=str(papers.ca), certificate=str(path), key=str(papers.ours)))


@pytest.mark.parametrize("scheme", TLS_SCHEMES.values())
async def test_a_file_that_cannot_be_used_is_said_at_each_try_and_ends_nothing(
    scheme: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    tls = EventsTls(ca=str(tmp_path / "missing.pem"))
    broker = open_broker(Events(url=f"{scheme}://127.0.0.1:9", tls=tls, retry_s=0.001, retry_s_max=0.001))
    with pytest.raises(TlsError):
        await broker.publish(event(1))

    async def never(one: Event) -> None:
        raise AssertionError

    async with consuming(broker, never):
        await until(lambda: caplog.text.count("missing.pem cannot be used") >= 2)


# -- real brokers


@pytest.fixture(scope="module", params=list(KINDS))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    try:
        running = KINDS[request.param](tmp_path_factory.mktemp(request.param))
    except NoBrokerError as error:
        pytest.skip(str(error))
    yield running
    running.close()


def settings(server: Server, name: str) -> Events:
    return Events(url=server.url, name=name, retry_s=0.1, retry_s_max=0.5, trim_every=5)


@pytest.mark.e2e
async def test_what_was_published_before_anybody_listened_comes_in_order_and_each_once(server: Server):
    broker, heard = open_broker(settings(server, "early")), list[Event]()
    told = [event(n) for n in range(30)]
    await publish(broker, told)

    async def take(one: Event) -> None:
        heard.append(one)

    listener = open_broker(settings(server, "early"))
    async with consuming(listener, take):
        await until(lambda: len(heard) >= len(told))
    assert by_subject(heard) == by_subject(told)
    assert len(heard) == len(told)
    await broker.close()


@pytest.mark.e2e
@pytest.mark.parametrize("asks", [False, True], ids=["", "for-certificates"])
async def test_behind_tls_events_come_and_go_and_nobody_is_believed_without_a_certificate(
    server: Server, papers: Papers, asks: bool
):
    name = f"tls-{asks}".lower()
    scheme, _, rest = server.url.partition("://")
    believing = EventsTls(ca=str(papers.ca))
    ours = EventsTls(ca=str(papers.ca), certificate=str(papers.ours), key=str(papers.ours))
    told, heard = [event(n) for n in range(5)], list[Event]()

    async def take(one: Event) -> None:
        heard.append(one)

    async with behind_tls(server.port, papers.server(asks=asks)) as port:
        url = f"{TLS_SCHEMES[scheme]}://{rest.replace(str(server.port), str(port))}"

        def over(tls: EventsTls) -> Broker:
            return open_broker(Events(url=url, name=name, tls=tls, retry_s=0.1, retry_s_max=0.5))

        for stranger in (EventsTls(), *((believing,) if asks else ())):
            distrusting = over(stranger)
            with pytest.raises(Exception, match=r".*"):
                await distrusting.publish(told[0])
            await distrusting.close()
        broker = over(ours if asks else believing)
        await publish(broker, told)
        async with consuming(over(ours if asks else believing), take):
            await until(lambda: len(heard) >= len(told))
        await broker.close()
    assert by_subject(heard) == by_subject(told)
    assert len(heard) == len(told)


@pytest.mark.e2e
async def test_what_a_consumer_did_not_take_comes_first_to_its_successor(server: Server):
    broker, heard, stuck = open_broker(settings(server, "stuck")), list[Event](), asyncio.Event()
    told = [event(n, subject=0) for n in range(6)]
    await publish(broker, told)

    async def never(one: Event) -> None:
        heard.append(one)
        if len(heard) == 3:
            stuck.set()
            await asyncio.get_running_loop().create_future()

    async def take(one: Event) -> None:
        again.append(one)

    async with consuming(open_broker(settings(server, "stuck")), never):
        await asyncio.wait_for(stuck.wait(), PATIENCE_S)
    again = list[Event]()
    async with consuming(open_broker(settings(server, "stuck")), take):
        await until(lambda: len(again) >= 4)
    assert [one.id for one in again] == [one.id for one in told[2:]]
    await broker.close()


@pytest.mark.e2e
async def test_an_event_that_a_consumer_refuses_is_handed_to_it_again_before_the_next(server: Server):
    broker, heard = open_broker(settings(server, "refused")), list[str]()

    async def take(one: Event) -> None:
        heard.append(one.id)
        if len(heard) < 3:
            raise KeyError

    async with consuming(open_broker(settings(server, "refused")), take):
        await publish(broker, [event(1, 0), event(2, 0)])
        await until(lambda: len(heard) >= 4)
    assert heard == [event(1).id] * 3 + [event(2).id]
    await broker.close()


@pytest.mark.e2e
async def test_a_consumer_that_lives_hears_again_when_the_broker_is_back(server: Server):
    broker, heard = open_broker(settings(server, "again")), list[str]()

    async def take(one: Event) -> None:
        heard.append(one.id)

    async with consuming(open_broker(settings(server, "again")), take):
        await publish(broker, [event(1, 0)])
        await until(lambda: heard == [event(1).id])
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await publish(broker, [event(2, 0)], RESTART_S)
        await until(lambda: heard[-1] == event(2).id)
    await broker.close()


@pytest.mark.e2e
async def test_nothing_is_lost_and_nothing_done_twice_when_broker_and_consumers_are_killed(
    server: Server, tmp_path: Path
):
    told = [event(n) for n in range(150)]
    database = database_in(tmp_path)
    async with database.writing() as on:
        await on.run_sync(metadata.create_all)

    async def done() -> list[str]:
        async with database.reading() as on:
            return [row.type for row in (await on.execute(select(effects).order_by(effects.c.n))).all()]

    async def at_least(count: int) -> None:
        end = time.monotonic() + PATIENCE_S
        while len(await done()) < count:
            assert time.monotonic() < end, f"{len(await done())} of {count}"
            await asyncio.sleep(0.05)

    async def listener() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.services.base.listener", server.url, str(tmp_path)
        )

    broker = open_broker(Events(url=server.url, retry_s=0.1))
    processes = [await listener(), await listener()]
    publishing = asyncio.create_task(publish(broker, told, RESTART_S))
    try:
        await at_least(20)
        processes[0].kill()
        await at_least(60)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        processes[1].kill()
        processes.append(await listener())
        await at_least(len(told))
        await publishing
    finally:
        publishing.cancel()
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        await broker.close()
    effected = await done()
    assert sorted(effected) == sorted(one.type for one in told)
    ids = {one.type: one for one in told}
    assert by_subject([ids[one] for one in effected]) == by_subject(told)
    await database.close()
