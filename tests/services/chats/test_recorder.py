"""Answers are recorded whatever becomes of the database: exactly once, in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select

from cordee.config.sections.services import Chats, DatabaseSettings
from cordee.config.sections.services import Spool as SpoolSettings
from cordee.services.base.database import AwayError, connect
from cordee.services.base.migrate import migrate
from cordee.services.chats.app import HISTORY, NAME, log_of, spool_of
from cordee.services.chats.leaving import erase
from cordee.services.chats.log import NEW, NoStreamError, Owner, told
from cordee.services.chats.recorder import Recorder, Telling
from cordee.services.chats.spool import SpoolError
from cordee.services.chats.tables import events, metadata
from tests.postgres import NoPostgresError, postgres
from tests.services import on_both
from tests.services.chats.conftest import MIGRATE_S, House

pytestmark = pytest.mark.anyio
OWNER = Owner("tn_one", "us_ada")
WAIT_S = 30.0


@pytest.fixture
def settings(database_settings: DatabaseSettings) -> Chats:
    """The drain is called by the tests themselves."""
    database_settings = msgspec.structs.replace(database_settings, wait_s=2.0)
    return Chats(database=database_settings, spool=SpoolSettings(bytes_max=1_048_576, record_s=10.0, drain_s=3600.0))


def _telling(name: str, expected: int | None = None, stream: str = "conv_a") -> Telling:
    return Telling(stream, OWNER, expected, (told("said", {"name": name}),))


async def _told(house: House, stream: str = "conv_a") -> list[str]:
    async with house.database.reading() as on:
        return [one.data["name"] for one in await house.service.log.read(on, stream, OWNER.tenant)]


@contextlib.asynccontextmanager
async def _locked(house: House) -> AsyncIterator[None]:
    """Another program holds SQLite's lock. Taken in a thread, because the service may hold it at this moment."""
    assert house.database.path is not None
    with contextlib.closing(
        sqlite3.connect(house.database.path, isolation_level=None, check_same_thread=False)
    ) as other:
        await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def test_while_the_database_is_locked_answers_go_to_disk_and_come_back_in_order(house: House):
    recorder = house.service.recorder
    assert await recorder.record([_telling("0", NEW)]) is True
    async with _locked(house):
        assert await recorder.record([_telling("1")]) is False
        assert await recorder.record([_telling("2")]) is False
    assert recorder.is_behind
    assert await recorder.record([_telling("3")]) is False  # it must not overtake
    assert await recorder.drain() == 3
    assert not recorder.is_behind
    assert await recorder.record([_telling("4")]) is True
    assert await _told(house) == ["0", "1", "2", "3", "4"]


async def test_many_at_once_are_all_kept(house: House):
    recorder = house.service.recorder
    assert await recorder.record([_telling("0", NEW)]) is True
    async with _locked(house):
        kept = await asyncio.gather(*(recorder.record([_telling(str(number))]) for number in range(1, 30)))
    assert not any(kept)
    await recorder.drain()
    assert sorted(await _told(house), key=int) == [str(number) for number in range(30)]


@on_both
async def test_a_drain_that_broke_off_is_begun_again_without_telling_twice(house: House):
    recorder = house.service.recorder
    entries = [_telling("0", NEW), *(_telling(str(number)) for number in range(1, 5))]
    folder = spool_of(house.data)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Recorder, "is_behind", True)
        for entry in entries:
            assert await recorder.record([entry]) is False
    await recorder.record(entries[:1])
    await recorder.record(entries[1:2])  # what a try that broke off had committed
    recorder.close()
    [segment] = folder.glob("*.jsonl")
    content = segment.read_bytes()
    await recorder.drain()
    segment.write_bytes(content)  # as if the process had died before it was deleted
    await recorder.drain()
    assert await _told(house) == ["0", "1", "2", "3", "4"]


@on_both
async def test_what_was_erased_does_not_come_back(house: House):
    recorder = house.service.recorder
    await recorder.record([_telling("0", NEW)])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Recorder, "is_behind", True)
        await recorder.record([_telling("1")])
        await recorder.record([_telling("2", NEW, "conv_b")])
    house.clock += 1
    assert await erase(house.service, OWNER.tenant, OWNER.subject)
    assert await recorder.drain() == 2
    async with house.database.reading() as on:
        assert [row.data for row in (await on.execute(select(events))).all()] == [{}]


async def test_what_cannot_be_recorded_is_set_aside_and_holds_up_nothing(house: House):
    recorder = house.service.recorder
    twice = _telling("twice", NEW, "conv_x")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Recorder, "is_behind", True)
        await recorder.record([Telling("conv_y", OWNER, NEW, (*twice.happened, *twice.happened))])
        await recorder.record([_telling("0", NEW)])
    assert await recorder.drain() == 2
    assert await _told(house) == ["0"]
    assert b"twice" in (spool_of(house.data) / "refused.damaged").read_bytes()


async def test_when_neither_takes_it_that_is_said(house: House):
    async with _locked(house):
        with pytest.raises(SpoolError):
            await house.service.recorder.record(
                [Telling("conv_a", OWNER, NEW, (told("said", {"name": "x" * 1_100_000}),))]
            )


@on_both
async def test_streams_are_told_all_or_none(house: House):
    recorder = house.service.recorder
    with pytest.raises(NoStreamError):
        await recorder.record([_telling("0", NEW, "resp_a"), _telling("1", None, "conv_missing")])
    assert await _told(house, "resp_a") == []


async def _made(data: Path, url: str) -> tuple[Recorder, Chats]:
    settings = Chats(database=DatabaseSettings(url=url, wait_s=5.0, statement_s=5.0), spool=SpoolSettings(record_s=5.0))
    database = connect(settings.database, NAME, data)
    await migrate(database, HISTORY, metadata, MIGRATE_S)
    log = log_of(settings)
    return Recorder(log, database, spool_of(data), settings.spool, lambda: 1.0), settings


@pytest.mark.e2e
@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
async def test_a_postgresql_that_is_frozen_or_killed_loses_nothing(tmp_path: Path, how: signal.Signals):
    try:
        with postgres() as server:
            url = f"{server}/postgres"
            recorder, _ = await _made(tmp_path, url)
            assert await recorder.record([_telling("0", NEW)]) is True
            processes = _processes(server)
            for process in processes:
                with contextlib.suppress(ProcessLookupError):  # children end by themselves when the first one is dead
                    os.kill(process, how)
            for number in range(1, 4):
                assert await recorder.record([_telling(str(number))]) is False
            with pytest.raises(AwayError):
                await recorder.drain()
            if how is signal.SIGKILL:
                return  # a server that comes back is the frozen one's case
            for process in processes:
                os.kill(process, signal.SIGCONT)
            async with asyncio.timeout(WAIT_S):
                while recorder.is_behind:
                    with contextlib.suppress(AwayError):
                        await recorder.drain()
                    await asyncio.sleep(0.1)
            async with recorder._database.reading() as on:
                found = await recorder._log.read(on, "conv_a", OWNER.tenant)
            assert [one.data["name"] for one in found] == ["0", "1", "2", "3"]
            await recorder._database.close()
    except NoPostgresError as error:
        pytest.skip(str(error))


def _processes(server: str) -> list[int]:
    """Of the PostgreSQL at this address: the first one and its children."""
    port = server.rpartition(":")[2]
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError):
                words = (path / "cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"postgres") and port.encode() in b" ".join(words):
                    children = (path / "task" / path.name / "children").read_text().split()
                    return [int(path.name), *map(int, children)]
    raise AssertionError(f"no PostgreSQL at {server}")


DRAINING = """
import asyncio, os, signal, sys
from pathlib import Path
from cordee.config.sections.services import Chats
from cordee.services.base.database import connect
from cordee.services.chats.app import NAME, log_of, spool_of
from cordee.services.chats.recorder import Recorder

async def main(data: Path, until: int) -> None:
    settings = Chats()
    recorder = Recorder(log_of(settings), connect(settings.database, NAME, data), spool_of(data), settings.spool, lambda: 1.0)
    take, count = recorder._take, 0
    async def counted(entry: bytes) -> None:
        nonlocal count
        await take(entry)
        count += 1
        if count == until:
            os.kill(os.getpid(), signal.SIGKILL)
    recorder._take = counted
    await recorder.drain()

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


@pytest.mark.e2e
async def test_a_process_killed_while_it_drains_tells_nothing_twice(house: House):
    recorder = house.service.recorder
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Recorder, "is_behind", True)
        for number in range(20):
            await recorder.record([_telling(str(number), None if number else NEW)])
    recorder.close()
    for until in (3, 9, 15):
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", DRAINING, house.data, str(until))
        assert await asyncio.wait_for(process.wait(), WAIT_S) == -signal.SIGKILL
        assert await _told(house) == [str(number) for number in range(until)]
    await recorder.drain()
    assert await _told(house) == [str(number) for number in range(20)]
