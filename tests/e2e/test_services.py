"""The services as the official client uses them, through the whole platform: what is made, killed in the middle, revoked and erased."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from cordee.domain.passages import PASSAGES
from cordee.policy.oracle import length_for
from cordee.services.chats.responses.naming import seed_of
from tests.e2e.services import PASSWORD, House, Person, Receiver, running
from tests.rig import oracle_text, until

pytestmark = pytest.mark.e2e
PATIENCE_S = 60.0
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
REVOKED_S = 30.0
SHORT = 16  # the fewest tokens that a response may be bounded to
LONG = 256  # tokens that take seconds
BATCH_LINES, BATCH_TOKENS = 40, 8
WORD, OTHER_WORD = "pelican", "axolotl"  # what people of two tenants speak about
# What names an erased tenant still, by ids alone: the operator's job, what was told of it until that is old, and tombstones, by which
# gateways learn that it is gone and nothing late brings it back.
NAMES_ONLY = frozenset({"jobs", "outbox", "erasures", "changes", "streams"})


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with running(tmp_path_factory.mktemp("services"), token_s=0.02) as made:
        yield made


@pytest.fixture(scope="module")
def operator(house: House) -> Person:
    return house.operator()


@pytest.fixture(scope="module")
def tenant(house: House, operator: Person) -> Person:
    return house.tenant(operator, "one")


def batch_file(client: openai.OpenAI, lines: int = BATCH_LINES) -> str:
    body = {
        "model": "oracle",
        "messages": [{"role": "user", "content": "x"}],
        "max_tokens": BATCH_TOKENS,
        "ignore_eos": True,
    }
    said = [
        {"custom_id": f"r{number}", "method": "POST", "url": "/v1/chat/completions", "body": body | {"seed": number}}
        for number in range(lines)
    ]  # fmt: skip
    content = "".join(json.dumps(line) + "\n" for line in said).encode()
    return client.files.create(file=("in.jsonl", content), purpose="batch").id


def begin_batch(client: openai.OpenAI) -> str:
    made = client.batches.create(
        input_file_id=batch_file(client), endpoint="/v1/chat/completions", completion_window="24h", metadata={"of": "test"}
    )  # fmt: skip
    return made.id


def every_line_is_there_once(client: openai.OpenAI, batch_id: str) -> None:
    ended = client.batches.retrieve(batch_id)
    assert ended.status == "completed", ended
    assert ended.output_file_id is not None
    output = [json.loads(line) for line in client.files.content(ended.output_file_id).text.splitlines()]
    assert [one["custom_id"] for one in output] == [f"r{number}" for number in range(BATCH_LINES)]
    for number, one in enumerate(output):
        assert one["response"]["body"]["choices"][0]["message"]["content"] == oracle_text(number, BATCH_TOKENS)


def test_responses_are_made_streamed_chained_and_deleted(house: House, tenant: Person) -> None:
    client = house.client(tenant.key)
    first = client.responses.create(model="oracle", input="Count.", max_output_tokens=SHORT)
    assert len(first.output_text.split()) == SHORT
    with client.responses.stream(
        model="oracle", input="More.", previous_response_id=first.id, max_output_tokens=SHORT
    ) as stream:
        events = list(stream)
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert events[-1].type in ("response.completed", "response.incomplete")
    second = events[-1].response
    assert second.output_text == said != ""
    assert client.responses.retrieve(second.id).previous_response_id == first.id
    assert len(client.responses.input_items.list(second.id).data) >= 1
    tool: Any = {
        "type": "function",
        "name": "look",
        "parameters": {"type": "object", "properties": {}},
        "strict": False,
    }
    with pytest.raises(
        openai.BadRequestError
    ) as refused:  # by the model, which has no place for them: they came as far as it
        client.responses.create(model="oracle", input="Look.", tools=[tool], max_output_tokens=SHORT)
    assert refused.value.param == "tools"
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


def test_a_response_in_the_background_is_followed_from_where_one_was(house: House, tenant: Person) -> None:
    client = house.client(tenant.key)
    made = client.responses.create(model="oracle", input="Count.", background=True, max_output_tokens=SHORT)
    assert made.status in ("queued", "in_progress")
    begun = []
    with client.responses.retrieve(made.id, stream=True) as stream:
        for event in stream:
            begun.append(event)
            if len(begun) == 4:
                break
    events = begun + list(client.responses.retrieve(made.id, stream=True, starting_after=begun[-1].sequence_number))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert client.responses.retrieve(made.id).output_text == said
    other = client.responses.create(model="oracle", input="Count.", background=True)
    while length_for(seed_of(other.id)) < LONG:  # so short an answer may be over before it is cancelled
        client.responses.cancel(other.id)
        other = client.responses.create(model="oracle", input="Count.", background=True)
    assert client.responses.cancel(other.id).status == "cancelled"


def test_conversations_hold_what_was_said(house: House, tenant: Person) -> None:
    client = house.client(tenant.key)
    told: Any = {"type": "message", "role": "user", "content": "I am a pelican."}
    made = client.conversations.create(items=[told], metadata={"of": "test"})
    answer = client.responses.create(model="oracle", input="Go on.", conversation=made.id, max_output_tokens=SHORT)
    more = client.conversations.items.create(made.id, items=[told])
    items = list(client.conversations.items.list(made.id, order="asc"))
    assert [item.type for item in items] == ["message"] * 4
    assert items[2].content[0].text == answer.output_text  # type: ignore[union-attr, index]
    assert client.conversations.items.retrieve(more.data[0].id or "", conversation_id=made.id).type == "message"
    client.conversations.items.delete(more.data[0].id or "", conversation_id=made.id)
    assert client.conversations.update(made.id, metadata={"of": "two"}).metadata == {"of": "two"}
    assert client.conversations.retrieve(made.id).id == made.id
    found = house.ok("GET", "/v1/chats/search?q=pelican", tenant.key)["data"]
    assert made.id in json.dumps(found)
    assert client.conversations.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.conversations.retrieve(made.id)


def test_files_and_uploads_give_back_what_they_got(house: House, tenant: Person) -> None:
    client = house.client(tenant.key)
    file = client.files.create(file=("notes.txt", b"one\ntwo\n"), purpose="user_data")
    assert client.files.content(file.id).read() == b"one\ntwo\n"
    assert client.files.retrieve(file.id).bytes == 8
    assert file.id in [one.id for one in client.files.list()]
    content = bytes(range(256)) * 4096
    upload = client.uploads.create(
        bytes=len(content), filename="big.bin", mime_type="application/octet-stream", purpose="user_data"
    )
    half = len(content) // 2
    parts = [client.uploads.parts.create(upload.id, data=piece) for piece in (content[:half], content[half:])]
    done = client.uploads.complete(upload.id, part_ids=[part.id for part in parts])
    assert done.file is not None
    assert client.files.content(done.file.id).read() == content
    ended = client.uploads.create(bytes=10, filename="b.bin", mime_type="text/plain", purpose="user_data")
    assert client.uploads.cancel(ended.id).status == "cancelled"
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.content(file.id)


def test_what_ran_when_all_services_processes_were_killed_ends_once_and_is_told(house: House, tenant: Person) -> None:
    client = house.client(tenant.key, retries=8)
    with Receiver() as receiver:
        pids = house.pids("services")
        endpoint = client.webhooks.create(
            name="mine", url=receiver.url, event_types=["response.completed", "response.incomplete", "batch.completed"]
        )
        response = client.responses.create(model="oracle", input="Count.", background=True)
        batch = begin_batch(client)
        until(lambda: client.responses.retrieve(response.id).status != "queued", "it runs", PATIENCE_S)
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        until(lambda: _is_over(client, response.id, batch), "both ended", PATIENCE_S)
        found = client.responses.retrieve(response.id)
        assert found.output_text == oracle_text(seed_of(response.id), 512, ignore_eos=False)
        every_line_is_there_once(client, batch)

        def told() -> dict[str, tuple[str, dict[str, str]]]:
            """What was said of these two, by the id: each may be told again, and others that ended a moment before too."""
            said = [(json.loads(body)["data"]["id"], body, headers) for body, headers in receiver.received]
            return {headers["webhook-id"]: (body, headers) for of, body, headers in said if of in (response.id, batch)}

        until(lambda: len(told()) >= 2, "both are told", PATIENCE_S)
        body, headers = next(one for one in told().values() if "batch" in json.loads(one[0])["type"])
        event = client.webhooks.unwrap(body, headers, secret=endpoint.signing_secret)
        assert (event.type, event.data.id) == ("batch.completed", batch)  # type: ignore[union-attr]
        assert len(told()) == 2
    assert client.webhooks.delete(endpoint.id).deleted


def test_commands_that_would_work_on_other_databases_than_the_platforms_say_so(house: House, operator: Person) -> None:
    for words in (("accounts", "create-owner", "eve@example.com"), ("chats", "rebuild"), ("migrate", "--check")):
        refused = house.tried(*words, said="\n")
        assert (refused.returncode, "--config FILE" in refused.stderr) == (2, True), refused.stdout + refused.stderr


def _is_over(client: openai.OpenAI, response_id: str, batch_id: str) -> bool:
    try:
        response, batch = client.responses.retrieve(response_id), client.batches.retrieve(batch_id)
    except (openai.APIConnectionError, openai.InternalServerError):
        return False
    assert response.status not in ("failed", "cancelled"), response
    assert batch.status not in ("failed", "cancelled", "expired"), batch
    return response.status in ("completed", "incomplete") and batch.status == "completed"


def test_a_revoked_key_is_refused_and_its_open_stream_ends(house: House, tenant: Person) -> None:
    key = house.key(tenant.token)
    client = house.client(key["key"])
    messages: Any = [{"role": "user", "content": "x"}]
    assert client.chat.completions.create(model="oracle", messages=messages, max_tokens=4).choices
    ended: list[str] = []
    begun = threading.Event()

    def listen() -> None:
        try:
            for _ in client.chat.completions.create(
                model="oracle", messages=messages, stream=True, max_tokens=4000, extra_body={"ignore_eos": True}
            ):
                begun.set()
        except openai.APIError as error:
            ended.append(str(error.body))

    reader = threading.Thread(target=listen, daemon=True)
    reader.start()
    assert begun.wait(PATIENCE_S)
    house.ok("DELETE", f"/v1/api_keys/{key['id']}", tenant.token)
    reader.join(REVOKED_S)
    assert ended
    assert "key_revoked" in ended[0]
    for ask in (client.models.list, client.files.list, lambda: client.responses.create(model="oracle", input="x")):
        with pytest.raises(openai.AuthenticationError):
            ask()


def test_a_browsers_session_reaches_services_outlives_gateways_and_changes_nothing_for_other_sites(
    house: House, tenant: Person
) -> None:
    key = house.key(tenant.token)
    client = house.client(key["key"])
    file = client.files.create(file=("kept.txt", b"kept"), purpose="user_data").id
    with httpx.Client(base_url=f"http://127.0.0.1:{house.port}", timeout=PATIENCE_S) as browser:
        begun = browser.post("/v1/sessions", headers={"Authorization": f"Bearer {key['key']}"})
        assert begun.status_code == 201
        for pid in house.pids("web").values():
            os.kill(pid, signal.SIGKILL)
        until(lambda: _gets(browser, f"/v1/files/{file}"), "another gateway serves the session", PATIENCE_S)
        assert browser.get(f"/v1/files/{file}/content").content == b"kept"

        before = _kept(client, browser)
        evil = {"Origin": "https://evil.example"}
        guess = {"X-CSRF-Token": begun.json()["csrf_token"][:-1] + "!"}
        for headers in ({}, evil, evil | {"Sec-Fetch-Site": "same-site"}, guess):
            asked = [
                browser.post("/v1/files", files={"file": b"x" * size}, data={"purpose": "user_data"}, headers=headers)
                for size in (10, 200_000)  # read whole by the gateway, and passed on as it comes
            ] + [
                browser.request(method, passage.path + "x" * passage.path.endswith("/"), json={}, headers=headers)
                for passage in PASSAGES
                for method in ("POST", "PUT", "PATCH", "DELETE")
                if not passage.is_open
            ]
            asked.append(browser.delete(f"/v1/files/{file}", headers=headers))
            assert {answer.status_code for answer in asked} == {403}
            assert {answer.json()["error"]["code"] for answer in asked} == {"cross_site_request"}
            # Where people sign in a cookie means nothing at all.
            assert browser.post("/v1/api_keys", json={"name": "x"}, headers=headers).status_code == 401
        assert _kept(client, browser) == before

        own = {"X-CSRF-Token": begun.json()["csrf_token"]}
        made = browser.post("/v1/conversations", json={}, headers=own)
        assert made.status_code == 200, made.text
        assert client.conversations.retrieve(made.json()["id"]).id == made.json()["id"]
        asked_model = {"model": "oracle", "input": "x", "max_output_tokens": SHORT}
        answer = browser.post("/v1/responses", json=asked_model, headers=own)  # which asks a gateway on its behalf
        assert client.responses.retrieve(answer.json()["id"]).output_text
        assert browser.delete(f"/v1/files/{file}", headers=own).json()["deleted"]
        kept = dict(browser.cookies)
        assert browser.delete("/v1/sessions", headers=own).json()["deleted"]
        browser.cookies.update(kept)
        until(lambda: browser.get("/v1/files").status_code == 401, "it has ended", PATIENCE_S)


def test_a_person_who_signed_in_has_a_session_until_the_sign_in_ends_or_the_user_is_switched_off(
    house: House, tenant: Person
) -> None:
    signing_in = {"email": "bea@one.example", "password": PASSWORD}
    user = house.ok("POST", "/v1/users", tenant.token, {**signing_in, "name": "Bea", "role": "user"})
    with _browser(house) as browser, _browser(house) as other:
        tokens = [_signed_in(house, one, signing_in) for one in (browser, other)]
        for pid in house.pids("web").values():
            os.kill(pid, signal.SIGKILL)
        until(lambda: all(_gets(browser, "/v1/auth/me") for _ in range(8)), "others serve the session", PATIENCE_S)
        me = browser.get("/v1/auth/me").json()
        assert (me["id"], me["tenant"]) == (user["id"], tenant.tenant)
        assert browser.get("/v1/users").status_code == 401, "accounts tell who it is, and are changed with a token only"
        own = {"X-CSRF-Token": browser.get("/v1/sessions").json()["csrf_token"]}
        assert browser.post("/v1/conversations", json={}).json()["error"]["code"] == "cross_site_request"
        assert browser.post("/v1/conversations", json={}, headers=own).status_code == 200
        asked = {
            "model": "oracle", "messages": [{"role": "user", "content": "x"}], "stream": True, "max_tokens": 4000, "ignore_eos": True,
        }  # fmt: skip
        with browser.stream("POST", "/v1/chat/completions", json=asked, headers=own) as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("data: ")
            house.ok("POST", "/v1/auth/logout", tokens[0])
            assert "key_revoked" in "".join(lines)
        until(lambda: browser.get("/v1/files").status_code == 401, "the session has ended with its sign-in", REVOKED_S)
        assert other.get("/v1/files").status_code == 200, "another sign-in goes on"
        house.ok("POST", f"/v1/users/{user['id']}", tenant.token, {"is_active": False})
        until(lambda: other.get("/v1/files").status_code == 401, "the user is gone", REVOKED_S)


def _browser(house: House) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{house.port}", timeout=PATIENCE_S)


def _signed_in(house: House, browser: httpx.Client, signing_in: dict[str, str]) -> str:
    """The token of the sign-in for which the browser has a cookie."""
    token = str(house.ok("POST", "/v1/auth/login", body=signing_in)["access_token"])
    shown = {"Authorization": f"Bearer {token}"}
    until(lambda: browser.post("/v1/sessions", headers=shown).status_code == 201, "the gateway knows them", PATIENCE_S)
    return token


def _gets(browser: httpx.Client, path: str) -> bool:
    try:
        return browser.get(path).status_code == 200
    except httpx.TransportError:
        return False


def _kept(client: openai.OpenAI, browser: httpx.Client) -> tuple[Any, ...]:
    """All that a request could have made or changed."""
    listed = [browser.get(path).json()["data"] for path in ("/v1/chats", "/v1/batches", "/v1/webhook_endpoints")]
    return [one.id for one in client.files.list()], *listed


def test_an_erased_tenant_leaves_no_row_and_no_file_and_others_keep_theirs(
    house: House, operator: Person, tenant: Person
) -> None:
    gone = house.tenant(operator, "gone")
    kept = _something_everywhere(house, tenant, WORD)
    files = _contents(house.data)
    _something_everywhere(house, gone, OTHER_WORD)
    assert _contents(house.data) - files
    assert _left(house.data, OTHER_WORD, "owner@gone.example").keys() >= {"events", "items", "texts", "users"}
    job = house.ok("POST", "/v1/jobs", operator.token, {"kind": "tenant.erase", "tenant": gone.tenant})["id"]
    until(lambda: _state(house, operator, job) in ("done", "completed", "failed"), "the erasure ended", PATIENCE_S)
    assert _state(house, operator, job) in ("done", "completed"), house.ok("GET", f"/v1/jobs/{job}", operator.token)
    assert _left(house.data, gone.tenant, gone.user).keys() <= NAMES_ONLY
    assert not _left(house.data, OTHER_WORD, "owner@gone.example")
    assert _contents(house.data) == files
    assert _left(house.data, WORD)
    until(lambda: not house.knows(gone.key), "the key is refused", REVOKED_S)
    for path in kept:
        house.ok("GET", path, tenant.key)


def _state(house: House, operator: Person, job: str) -> str:
    return str(house.ok("GET", f"/v1/jobs/{job}", operator.token)["state"])


def _something_everywhere(house: House, person: Person, word: str) -> list[str]:
    """One object of each kind, with this word in it; the paths to look at them."""
    client = house.client(person.key)
    told: Any = {"type": "message", "role": "user", "content": f"I am a {word}."}
    conversation = client.conversations.create(items=[told]).id
    response = client.responses.create(model="oracle", input=word, max_output_tokens=SHORT).id
    talk = client.responses.create(model="oracle", input="x", conversation=conversation, max_output_tokens=SHORT).id
    file = client.files.create(file=(f"{word}.txt", b"hello"), purpose="user_data").id
    upload = client.uploads.create(bytes=3, filename="b.txt", mime_type="text/plain", purpose="user_data").id
    client.uploads.parts.create(upload, data=b"abc")
    hook = client.webhooks.create(name="h", url="http://127.0.0.1:9/h", event_types=["batch.completed"]).id
    batch = begin_batch(client)
    until(lambda: client.batches.retrieve(batch).status == "completed", "a batch", PATIENCE_S)
    house.ok("POST", "/v1/applications", person.token, {"name": word, "scopes": []})
    return [
        f"/v1/conversations/{conversation}", f"/v1/responses/{response}", f"/v1/responses/{talk}", f"/v1/files/{file}/content",
        f"/v1/uploads/{upload}", f"/v1/batches/{batch}", f"/v1/webhook_endpoints/{hook}",
    ]  # fmt: skip


def _left(data: Path, *words: str) -> dict[str, int]:
    """Which tables of the services' databases hold how many rows in which one of `words` stands."""
    found: dict[str, int] = {}
    for path in (data / "services").glob("*.db"):
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                rows = [str(row) for row in _rows(database, table)]
                count = sum(any(word in row for word in words) for row in rows)
                if count:
                    found[table] = found.get(table, 0) + count
    return found


def _rows(database: sqlite3.Connection, table: str) -> list[Any]:
    return database.execute(f'SELECT * FROM "{table}"').fetchall()


def _contents(data: Path) -> set[Path]:
    return {path for path in (data / "services" / "files").rglob("*") if path.is_file()}


def test_a_fuzzer_that_reads_the_descriptions_finds_nothing_broken_or_undescribed(
    house: House, operator: Person, tmp_path: Path
) -> None:
    key = house.tenant(operator, "fuzzed").key
    program = Path(sys.executable).with_name("schemathesis")
    fuzzers = {
        service: subprocess.Popen(
            [program, "run", f"{house.url}/{service}/openapi.json", "--checks", CHECKS, "--max-examples", "1", "--phases", "fuzzing",
             "--seed", "1", "--header", f"Authorization: Bearer {key}", "--request-timeout", "20", "--no-color",
             "--suppress-health-check", "all", "--generation-database", "none", "--exclude-path-regex", "erasures$"],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for service in ("accounts", "chats", "files", "batches", "webhooks")
    }  # fmt: skip
    said = {service: fuzzer.communicate(timeout=PATIENCE_S)[0] for service, fuzzer in fuzzers.items()}
    assert {service: said[service][-3000:] for service, fuzzer in fuzzers.items() if fuzzer.returncode} == {}
