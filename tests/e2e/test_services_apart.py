"""Nobody finds out by any object's id, anywhere it can be given, whether another tenant has it: all is as for an id that never was."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.services import PASSWORD, House, Person, running

pytestmark = pytest.mark.e2e
METHODS = ("GET", "POST", "DELETE", "PUT", "PATCH")
SERVICES = ("accounts", "chats", "files", "batches", "webhooks")
MESSAGE_SAID = {"role": "user", "content": "hello"}
MESSAGE = {"type": "message", **MESSAGE_SAID}
SCHEMA_KINDS = {"{tenant_id}": "tenant", "{user_id}": "user", "{application_id}": "application", "{key_id}": "key",
                "{conversation}": "conversation", "{item}": "item", "{response_id}": "response", "{file_id}": "file",
                "{upload_id}": "upload", "{batch_id}": "batch", "{job_id}": "job", "{id}": "endpoint",
                "{delivery}": "delivery"}  # fmt: skip
# What a POST takes, where not {}: so that it is the id that it founders on.
BODIES: dict[str, Any] = {
    "/v1/conversations/{conversation}": {"metadata": {"a": "b"}},
    "/v1/conversations/{conversation}/items": {"items": [MESSAGE]},
    "/v1/chats/{conversation}": {"title": "mine now"},
    "/v1/uploads/{upload_id}/complete": {"part_ids": ["part_" + "0" * 32]},
    "/v1/webhook_endpoints/{id}/test": {"event_type": "batch.completed"},
    "/v1/users/{user_id}": {"name": "Eve"},
    "/v1/api_keys/{key_id}": {"name": "mine now"},
    "/v1/applications/{application_id}": {"name": "mine now"},
    "/v1/tenants/{tenant_id}": {"name": "mine now"},
}  # fmt: skip


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with running(tmp_path_factory.mktemp("apart"), processes=1) as made:
        yield made


@pytest.fixture(scope="module")
def people(house: House) -> tuple[Person, Person]:
    operator = house.operator()
    return house.tenant(operator, "ours"), house.tenant(operator, "theirs")


@pytest.fixture(scope="module")
def theirs(house: House, people: tuple[Person, Person]) -> dict[str, str]:
    """One object of each kind, of the other tenant."""
    return objects(house, people[1])


def objects(house: House, person: Person) -> dict[str, str]:
    client = house.client(person.key)
    conversation = client.conversations.create(items=[MESSAGE])  # type: ignore[list-item]
    item = client.conversations.items.list(conversation.id).data[0]
    file = client.files.create(file=("a.jsonl", b"not a line of a batch\n"), purpose="batch")
    upload = client.uploads.create(bytes=3, filename="b.txt", mime_type="text/plain", purpose="user_data")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    hook = client.webhooks.create(name="h", url="http://127.0.0.1:9/h", event_types=["batch.completed"])
    job = house.ok("GET", "/v1/jobs", person.key)["data"]
    return {
        "tenant": person.tenant,
        "user": person.user,
        "application": house.ok("POST", "/v1/applications", person.token, {"name": "a", "scopes": []})["id"],
        "key": house.ok("GET", "/v1/api_keys", person.token)["data"][0]["id"],
        "conversation": conversation.id,
        "item": str(item.id),
        "response": client.responses.create(model="oracle", input="x", max_output_tokens=16).id,
        "file": file.id,
        "upload": upload.id,
        "batch": batch.id,
        "job": job[0]["id"],
        "endpoint": hook.id,
        "delivery": "",
    }


def never(name: str) -> str:
    """An id like this one, of nothing."""
    prefix, _, digits = name.rpartition("_")
    return f"{prefix}_{digits[:12]}{'0' * (len(digits) - 12)}"


def answer(house: House, method: str, path: str, key: str, body: Any) -> tuple[int, str]:
    response = house.begin(method, path, key, body if method != "GET" else None)
    return response.status, response.read().decode()


def swapped(body: Any, name: str) -> Any:
    """With the id where {} stands."""
    return json.loads(json.dumps(body).replace('"{}"', json.dumps(name)))


def same(house: House, key: str, method: str, template: str, name: str, body: Any) -> str:
    """What was different between this object and one that never was, if anything. `template`: with {} for the id."""
    given, other = (answer(house, method, template.format(one), key, swapped(body, one)) for one in (name, never(name)))
    if given[0] < 400:
        return f"{method} {template}: {given}"
    told = (given[0], given[1].replace(name, never(name)))
    return "" if told == other else f"{method} {template}: {told} is not {other}"


def test_every_path_with_anothers_id_answers_as_with_an_id_that_never_was(
    house: House, people: tuple[Person, Person], theirs: dict[str, str]
) -> None:
    ours = people[0]
    mine = house.client(ours.key).conversations.create(items=[MESSAGE]).id  # type: ignore[list-item]
    wrong, asked = [], 0
    for service in SERVICES:
        for path in house.ok("GET", f"/v1/{service}/openapi.json", ours.key)["paths"]:
            kinds = [kind for kind in SCHEMA_KINDS if kind in path]
            templates = [_with(path, kinds, theirs, kind, mine) for kind in kinds if theirs[SCHEMA_KINDS[kind]]]
            for (template, name), method in itertools.product(templates, METHODS):
                for key in {ours.key, ours.token} if service == "accounts" else (ours.key,):
                    asked += 1
                    wrong.append(same(house, key, method, template, name, BODIES.get(path, {})))
    assert asked > 100
    assert [one for one in wrong if one] == []
    client = house.client(people[1].key)
    for kind, read in (
        ("conversation", client.conversations.retrieve), ("file", client.files.retrieve), ("batch", client.batches.retrieve),
        ("response", client.responses.retrieve), ("endpoint", client.webhooks.retrieve),
    ):  # fmt: skip
        assert read(theirs[kind]).id == theirs[kind]


def _with(path: str, kinds: list[str], theirs: dict[str, str], asked: str, mine: str) -> tuple[str, str]:
    """The path with {} for `asked`, ours for a conversation around it, theirs for all else; and their id."""
    for kind in kinds:
        if kind == asked:
            path = path.replace(kind, "{}")
        elif kind == "{conversation}" and asked == "{item}":
            path = path.replace(kind, mine)
        else:
            path = path.replace(kind, theirs[SCHEMA_KINDS[kind]] or "delivery_" + "0" * 32)
    return path, theirs[SCHEMA_KINDS[asked]]


@pytest.mark.parametrize(
    ("method", "path", "kind", "body"),
    [
        ("POST", "/v1/responses", "response", {"model": "oracle", "input": "x", "previous_response_id": "{}"}),
        ("POST", "/v1/responses", "conversation", {"model": "oracle", "input": "x", "conversation": "{}"}),
        ("POST", "/v1/batches", "file",
         {"input_file_id": "{}", "endpoint": "/v1/chat/completions", "completion_window": "24h"}),
        ("POST", "/v1/api_keys", "user", {"name": "k", "owner": "{}"}),
        ("POST", "/v1/api_keys", "application", {"name": "k", "owner": "{}"}),
        ("POST", "/v1/jobs", "tenant", {"kind": "tenant.erase", "tenant": "{}"}),
        ("GET", "/v1/chats/exports?user={}", "user", None),
        ("GET", "/v1/files/exports?user={}&content=true", "user", None),
        ("GET", "/v1/batches/exports?user={}", "user", None),
        ("GET", "/v1/webhooks/exports?user={}", "user", None),
        ("GET", "/v1/accounts/exports?user={}", "user", None),
        ("GET", "/v1/files?after={}", "file", None),
        ("GET", "/v1/batches?after={}", "batch", None),
        ("GET", "/v1/chats?after={}", "conversation", None),
    ],
)  # fmt: skip
def test_anothers_id_within_a_request_is_one_that_never_was(
    house: House, people: tuple[Person, Person], theirs: dict[str, str], method: str, path: str, kind: str, body: Any
) -> None:
    name, key = theirs[kind], people[0].token
    given, other = (answer(house, method, path.format(one), key, swapped(body, one)) for one in (name, never(name)))
    assert _plain(given, name) == _plain(other, never(name))
    for secret in theirs.values():
        assert not secret or secret == name or secret not in given[1]


def _plain(answered: tuple[int, str], name: str) -> tuple[int, str]:
    """Without what every answer has of its own."""
    return answered[0], answered[1].replace(name, "ID")


STRANGE = (
    "%00",
    "%ff",
    "%0d%0aX:%20y",
    "..%2f..%2fetc%2fpasswd",
    "%ed%a0%80",
    "'--",
    "9" * 40,
    "x" * 4000,
    "%e2%80%ae",
)


def test_no_id_or_number_however_strange_breaks_anything(house: House, people: tuple[Person, Person]) -> None:
    """On every path of every service, in place of an id and of every parameter of the query."""
    key, wrong, asked = people[0].key, [], 0
    for service in SERVICES:
        for path, operations in house.ok("GET", f"/v1/{service}/openapi.json", key)["paths"].items():
            names = [one["name"] for one in operations.get("get", {}).get("parameters", ()) if one["in"] == "query"]
            for strange in STRANGE:
                filled = re.sub(r"{[^}]*}", strange, path)
                queries = [f"{filled}?{name}={strange}" for name in names]
                for target in (*([filled] if filled != path else ()), *queries):
                    response = house.begin("GET", target, key)
                    said, asked = response.read(), asked + 1
                    is_right = response.status < 500 and (response.status < 400 or len(said) < 1024)
                    is_plain = "x" not in response.headers and "access-control-allow-origin" not in response.headers
                    if not (is_right and is_plain):
                        wrong.append((target[:100], response.status, said[:200]))
    assert asked > 200
    assert wrong == []


def test_no_key_token_or_password_lies_or_is_said_anywhere(
    house: House, people: tuple[Person, Person], theirs: dict[str, str]
) -> None:
    """After all of the above: not in a log, a database, a spool or a metric, and what is said in a chat in no log."""
    spoken = "the heron stands in the shallows"
    client = house.client(people[0].key)
    client.responses.create(model="oracle", input=spoken, max_output_tokens=16)
    broken = house.begin(
        "POST", "/v1/responses", people[0].key, {"model": "oracle", "input": spoken, "nonsense": spoken}
    )
    assert (broken.status, spoken in broken.read().decode()) == (400, False)
    secrets = [PASSWORD, *(secret for person in people for secret in (person.key, person.token))]
    files = [path for path in (*house.data.rglob("*"), house.output) if path.is_file()]
    assert any("services-1.log" in path.name for path in files)
    assert any(path.suffix == ".db" for path in files)
    for path in files:
        try:
            content = path.read_bytes()
        except FileNotFoundError:  # a part that has got its name meanwhile, or a database's that is not needed any more
            continue
        assert [secret for secret in secrets if secret.encode() in content] == [], path
        if path.suffix == ".log" or path == house.output:
            assert spoken.encode() not in content, path
    unknown = [f"model-{number}-nobody-has" for number in range(20)]
    for name in unknown:  # names that anybody may choose are no labels, or each would take memory for ever
        assert (
            house.ask("POST", "/v1/chat/completions", people[0].key, {"model": name, "messages": [MESSAGE_SAID]})[0]
            == 404
        )
        assert house.ask("GET", f"/v1/{name}", people[0].key)[0] == 404
    metrics = house.begin("GET", "/metrics", people[0].key).read().decode()
    assert "cordee_passages" in metrics
    assert [one for one in (*secrets, *unknown, spoken) if one in metrics] == []
