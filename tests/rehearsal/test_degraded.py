"""What goes on when a part of an installation does not: its PostgreSQL, the broker of its events, the gateways' store, its disk. Each is
real, and killed, frozen, slow or full; docs/operations.md has the table."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import openai
import pytest

from tests.brokers import KINDS, NoBrokerError, Server
from tests.e2e.services import House, Receiver, running
from tests.postgres import NoPostgresError
from tests.rehearsal.away import Postgres, Slow, postgres_that_goes_away
from tests.rig import until

pytestmark = [pytest.mark.rehearsal, pytest.mark.timeout(300)]
SERVICES = ("accounts", "chats", "files", "batches", "webhooks")
PATIENCE_S = 90.0
REVOKED_S = 30.0
ANSWER_S = 10.0  # an answer is there within this, whatever is away: what is waited for once, and a busy machine
SHORT = 16
PER_MINUTE = 10
SLOW_S = 5.0
WAITS = "wait_s = 2.0\nstatement_s = 4.0\n"
MIB = 1 << 20
DISK_BYTES = 96 * MIB
INTEGRITY = """
import pathlib, sqlite3, sys
for path in pathlib.Path(sys.argv[1]).glob("*.db"):
    print(sqlite3.connect(path, timeout=10).execute("PRAGMA integrity_check").fetchone()[0])
"""
MESSAGES: Any = [{"role": "user", "content": "x"}]


def _databases(port: int) -> str:
    said = (
        f'[services.{name}.database]\nurl = "postgresql://cordee@127.0.0.1:{port}/{name}"\n{WAITS}' for name in SERVICES
    )
    return "".join(said) + "[services.chats.spool]\nrecord_s = 1.0\ndrain_s = 0.3\n"


class Installed:
    """A platform on a PostgreSQL that goes away, and a person who uses it."""

    def __init__(self, house: House, server: Postgres, slow: Slow) -> None:
        self.house = house
        self.server = server
        self.slow = slow
        self.operator = house.operator()
        self.person = house.tenant(self.operator, "one")
        self.client = house.client(self.person.key)
        self.spool = house.data / "services" / "spool" / "chats"

    def goes(self, how: str) -> None:
        match how:
            case "killed":
                self.server.signal(signal.SIGKILL)
            case "frozen":
                self.server.signal(signal.SIGSTOP)
            case _:
                self.slow.delay_s = SLOW_S

    def comes_back(self, how: str) -> None:
        match how:
            case "killed":
                self.server.start()
            case "frozen":
                self.server.signal(signal.SIGCONT)
            case _:
                self.slow.delay_s = 0.0

    def rows(self, service: str, query: str) -> list[Any]:
        async def asked() -> list[Any]:
            connection = await asyncpg.connect(f"postgresql://cordee@127.0.0.1:{self.server.port}/{service}")
            try:
                return list(await connection.fetch(query))
            finally:
                await connection.close()

        return asyncio.run(asked())


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    try:
        with postgres_that_goes_away(SERVICES) as (server, slow):
            settings = _databases(slow.port)
            with running(tmp_path_factory.mktemp("away"), settings, token_s=0.02, processes=1) as house:
                yield Installed(house, server, slow)
    except NoPostgresError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("how", ["killed", "frozen", "slow"])
def test_chats_answer_and_are_kept_when_the_database_is_back(installed: Installed, how: str) -> None:
    house, client, person = installed.house, installed.client, installed.person
    revoked, later = house.key(person.token), house.key(person.token)
    house.ok("DELETE", f"/v1/api_keys/{revoked['id']}", person.token)
    until(lambda: not house.knows(revoked["key"]), "the key is refused", REVOKED_S)
    conversation = client.conversations.create().id
    ids = [client.responses.create(model="oracle", input="before", max_output_tokens=SHORT).id]
    with client.responses.stream(model="oracle", input="during", max_output_tokens=200) as stream:
        events = iter(stream)
        ids.append(next(events).response.id)  # type: ignore[union-attr]
        installed.goes(how)
        try:
            said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
            assert said
            texts = {ids[-1]: said}
            for number in range(4):
                began = time.monotonic()
                made = client.responses.create(model="oracle", input=f"while {number}", max_output_tokens=SHORT)
                assert time.monotonic() - began < ANSWER_S
                assert client.responses.retrieve(made.id).output_text == made.output_text
                ids.append(made.id)
                texts[made.id] = made.output_text
                assert client.chat.completions.create(model="oracle", messages=MESSAGES, max_tokens=2).choices
            following = client.responses.create(
                model="oracle", input="and then?", previous_response_id=ids[-1], max_output_tokens=SHORT
            )
            ids.append(following.id)
            texts[following.id] = following.output_text
            assert not house.knows(revoked["key"])
            _is_refused(lambda: client.files.create(file=("a.txt", b"hello"), purpose="user_data"))
            _is_refused(lambda: client.conversations.retrieve(conversation))
            assert list(installed.spool.glob("*.jsonl"))
        finally:
            installed.comes_back(how)
    for name, text in texts.items():
        until(partial(_is_shown, client, name, text), "what was answered is there", PATIENCE_S)
    _told_once_and_in_order(installed, ids)
    until(
        lambda: _works(lambda: client.files.create(file=("a.txt", b"hello"), purpose="user_data")),
        "uploads again",
        PATIENCE_S,
    )
    assert client.conversations.retrieve(conversation).id == conversation
    until(
        lambda: house.ask("DELETE", f"/v1/api_keys/{later['id']}", person.token)[0] == 200, "accounts again", PATIENCE_S
    )
    until(lambda: not house.knows(later["key"]), "the key is refused", REVOKED_S)


def _is_refused(ask: Callable[[], Any]) -> None:
    """For now: with when to come again."""
    with pytest.raises(openai.InternalServerError) as refused:
        ask()
    assert refused.value.status_code == 503, refused.value
    assert refused.value.response.headers["retry-after"]


def _works(ask: Callable[[], Any]) -> bool:
    try:
        ask()
    except (openai.InternalServerError, openai.APIConnectionError):
        return False
    return True


def _stored(client: openai.OpenAI, name: str) -> bool:
    try:
        return client.responses.retrieve(name).status in ("completed", "incomplete")
    except (openai.NotFoundError, openai.InternalServerError):
        return False


def _is_shown(client: openai.OpenAI, name: str, text: str) -> bool:
    """Never is it not found: what cannot be shown now is refused for now."""
    try:
        return client.responses.retrieve(name).output_text == text
    except openai.InternalServerError:
        return False


def _told_once_and_in_order(installed: Installed, ids: list[str]) -> None:
    """Each response's end is told once, in the order in which they ended."""
    until(lambda: not list(installed.spool.glob("*.jsonl")), "the spool is empty", PATIENCE_S)
    found = installed.rows("chats", "SELECT stream, version, type FROM events ORDER BY position")
    mine = [row for row in found if row["stream"] in ids]
    assert len({(row["stream"], row["version"]) for row in mine}) == len(mine)
    last: dict[str, int] = {row["stream"]: number for number, row in enumerate(mine)}
    assert sorted(last, key=last.__getitem__) == ids, mine


def test_what_is_revoked_before_the_database_goes_is_refused_by_gateways_that_start_while_it_is_away(
    installed: Installed,
) -> None:
    house, person = installed.house, installed.person
    revoked, known = house.key(person.token), house.key(person.token)
    house.ok("DELETE", f"/v1/api_keys/{revoked['id']}", person.token)
    until(lambda: not house.knows(revoked["key"]), "the key is refused", REVOKED_S)
    installed.goes("frozen")
    try:
        for pid in house.pids("web").values():
            os.kill(pid, signal.SIGKILL)
        until(lambda: _answers(lambda: house.knows(known["key"])), "known keys go on", PATIENCE_S)
        assert house.ask("GET", "/v1/models", revoked["key"])[0] == 401
    finally:
        installed.comes_back("frozen")
    until(lambda: _works(lambda: installed.client.files.list()), "all is back", PATIENCE_S)


def _answers(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except OSError:
        return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_calls_feel_nothing_of_the_store_of_gateways_and_limits_and_sessions_hold(
    installed: Installed, how: signal.Signals
) -> None:
    house, client = installed.house, installed.client
    house.wait_whole()
    limited = house.key(installed.person.token, limits={"requests_per_minute": PER_MINUTE})["key"]
    with httpx.Client(base_url=house.url, timeout=PATIENCE_S) as browser:
        assert browser.post("/sessions", headers={"Authorization": f"Bearer {installed.person.key}"}).status_code == 201
        (pid,) = house.pids("store").values()
        os.kill(pid, how)
        try:
            for _ in range(20):
                began = time.monotonic()
                assert client.chat.completions.create(model="oracle", messages=MESSAGES, max_tokens=2).choices
                assert time.monotonic() - began < ANSWER_S
            assert client.responses.create(model="oracle", input="x", max_output_tokens=SHORT).output_text
            statuses = [house.ask("GET", "/v1/files", limited)[0] for _ in range(4 * PER_MINUTE)]
            assert 1 <= statuses.count(200) <= 2 * PER_MINUTE, (
                statuses
            )  # what may come anew while they are asked is little
            assert statuses.count(200) + statuses.count(429) == len(statuses), statuses
            assert {browser.get(path).status_code for path in ("/models", "/files", "/sessions")} == {200}
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("kind", "hows"),
    [
        ("valkey", ("killed", "frozen", "slow", "full")),
        ("rabbitmq", ("killed", "frozen", "slow", "full")),
        ("kafka", ("killed",)),
    ],
)
def test_what_is_accepted_while_the_broker_is_away_is_told_once_when_it_is_back(
    tmp_path: Path, kind: str, hows: tuple[str, ...]
) -> None:
    try:
        broker = KINDS[kind](tmp_path / "broker")
    except NoBrokerError as error:
        pytest.skip(str(error))
    slow = Slow(broker.port)
    url = broker.url.replace(str(broker.port), str(slow.port)) if "slow" in hows else broker.url
    settings = f'[services.events]\nurl = "{url}"\nretry_s_max = 1.0\n'
    with (
        contextlib.closing(broker),
        contextlib.closing(slow),
        running(tmp_path, settings, token_s=0.02, processes=1) as house,
        Receiver() as receiver,
    ):
        person = house.tenant(house.operator(), "one")
        client = house.client(person.key)
        client.webhooks.create(name="h", url=receiver.url, event_types=["response.completed", "response.incomplete"])
        ids = [_in_the_background(client)]
        until(lambda: _told(receiver) == ids, "the first is told", PATIENCE_S)
        for how in hows:
            _goes(broker, slow, how)
            try:
                ids.extend(_in_the_background(client) for _ in range(3))
                until(
                    lambda: all(_stored(client, name) for name in ids),
                    f"they end without the broker: {how}",
                    PATIENCE_S,
                )
                began = time.monotonic()
                assert client.responses.create(model="oracle", input="x", max_output_tokens=SHORT).output_text
                assert client.files.list().data is not None
                assert time.monotonic() - began < ANSWER_S
                if how == hows[0]:
                    for pid in house.pids("services").values():  # nor does it help to forget what waits
                        os.kill(pid, signal.SIGKILL)
            finally:
                _comes_back(broker, slow, how)
            until(lambda: set(_told(receiver)) == set(ids), f"all are told: {how}", PATIENCE_S)
            house.wait_whole()
        ids.append(_in_the_background(client))
        until(lambda: ids[-1] in _told(receiver), "it goes on", PATIENCE_S)
        assert sorted(_told(receiver)) == sorted(ids)
        assert len({headers["webhook-id"] for _, headers in receiver.received}) == len(ids)


def _goes(broker: Server, slow: Slow, how: str) -> None:
    match how:
        case "killed":
            broker.kill()
        case "frozen":
            os.killpg(broker.process.pid, signal.SIGSTOP)
        case "slow":
            slow.delay_s = SLOW_S
        case _:
            broker.fill(full=True)


def _comes_back(broker: Server, slow: Slow, how: str) -> None:
    match how:
        case "killed":
            broker.start()
        case "frozen":
            os.killpg(broker.process.pid, signal.SIGCONT)
        case "slow":
            slow.delay_s = 0.0
        case _:
            broker.fill(full=False)


def _in_the_background(client: openai.OpenAI) -> str:
    return client.responses.create(model="oracle", input="x", background=True, max_output_tokens=SHORT).id


def _told(receiver: Receiver) -> list[str]:
    return [json.loads(body)["data"]["id"] for body, _ in receiver.received]


def _may_mount(directory: Path) -> bool:
    tried = ("unshare", "-m", "mount", "-t", "tmpfs", "none", str(directory))
    with contextlib.suppress(OSError):
        return subprocess.run(tried, capture_output=True, check=False).returncode == 0
    return False


def test_a_full_disk_stops_uploads_and_nothing_else(tmp_path: Path) -> None:
    if not _may_mount(tmp_path):
        pytest.skip("a small disk needs the right to mount one: run this as root")
    settings = f"[services.files]\nfree_bytes_min = {4 * MIB}\nsweep_s = 1.0\nwriting_s = 2.0\n[services.chats.spool]\nrecord_s = 1.0\n"
    with running(tmp_path, settings, token_s=0.02, processes=1, disk_bytes=DISK_BYTES) as house:
        person = house.tenant(house.operator(), "one")
        client = house.client(person.key)
        kept = client.files.create(file=("a.txt", b"hello" * 1000), purpose="user_data").id
        before = client.responses.create(model="oracle", input="x", max_output_tokens=SHORT)
        contents = _contents(house)
        _no_room(lambda: client.files.create(file=("big.bin", bytes(2 * DISK_BYTES)), purpose="user_data"))
        until(lambda: _contents(house) == contents, "nothing half stays", PATIENCE_S)

        ballast = house.seen / "ballast"
        filling = threading.Event()
        filler = threading.Thread(target=_fill, args=(ballast, filling), daemon=True)
        filler.start()  # as often as somebody frees a page: really full, until it is told to stop
        try:
            until(lambda: os.statvfs(house.seen).f_bavail == 0, "the disk is full")
            for _ in range(20):
                assert client.chat.completions.create(model="oracle", messages=MESSAGES, max_tokens=4).choices
            assert client.responses.create(model="oracle", input="x", max_output_tokens=SHORT).output_text
            with client.responses.stream(model="oracle", input="x", max_output_tokens=SHORT) as stream:
                assert list(stream)[-1].type in ("response.completed", "response.incomplete")
            _no_room(lambda: client.files.create(file=("b.txt", b"hello"), purpose="user_data"))
            _no_room(lambda: client.uploads.create(bytes=10, filename="b", mime_type="text/plain", purpose="user_data"))
            _is_refused(lambda: client.conversations.create())
            assert client.files.content(kept).read() == b"hello" * 1000
            assert client.responses.retrieve(before.id).output_text == before.output_text
        finally:
            filling.set()
            filler.join()
            ballast.unlink()
        until(
            lambda: _works(lambda: client.files.create(file=("c.txt", b"again"), purpose="user_data")),
            "uploads",
            PATIENCE_S,
        )
        again = client.responses.create(model="oracle", input="x", max_output_tokens=SHORT)
        until(lambda: _is_shown(client, again.id, again.output_text), "it is there", PATIENCE_S)
        until(lambda: len(_contents(house)) == len(contents) + 1, "one more content, and nothing half", PATIENCE_S)
        checked = subprocess.run(
            [*house.inside, sys.executable, "-c", INTEGRITY, house.data / "services"], capture_output=True, text=True, check=True
        )  # fmt: skip
        assert checked.stdout.splitlines() == ["ok"] * len(SERVICES)


def _fill(path: Path, ended: threading.Event) -> None:
    with path.open("ab", buffering=0) as file:
        while not ended.is_set():
            for size in (MIB, 4096):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass
            ended.wait(0.05)


def _no_room(ask: Callable[[], Any]) -> None:
    with pytest.raises(openai.InternalServerError) as refused:
        ask()
    assert refused.value.status_code == 507, refused.value


def _contents(house: House) -> set[Path]:
    return {path for path in (house.seen / "services" / "files").rglob("*") if path.is_file()}
