"""OpenAI's Conversations API, through OpenAI's own client."""

from __future__ import annotations

from typing import Any

import msgspec
import openai
import pytest
from openai.types.conversations import Message

from cordee.wire.vouch import Vouched
from tests.services import on_both
from tests.services.chats.conftest import ADA, BARE, BOB, EVE, House

pytestmark = pytest.mark.anyio


def _said(text: str, role: str = "user") -> Any:
    return {"type": "message", "role": role, "content": text}


def _texts(items: list[Any]) -> list[str]:
    return [one.content[0].text for one in items]


@on_both
async def test_the_official_client_finds_everything_it_knows(house: House):
    client = house.openai()
    made = await client.conversations.create(metadata={"topic": "bees"}, items=[_said("How do bees find home?")])
    assert (made.id[:5], made.metadata) == ("conv_", {"topic": "bees"})
    assert (await client.conversations.retrieve(made.id)).id == made.id
    assert (await client.conversations.update(made.id, metadata={"topic": "wasps"})).metadata == {"topic": "wasps"}
    call: Any = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
    output: Any = {"type": "function_call_output", "call_id": "c1", "output": "by the sun"}
    added = await client.conversations.items.create(made.id, items=[call, output, _said("By the sun.", "assistant")])
    assert [one.id.partition("_")[0] for one in added.data if one.id] == ["fc", "fco", "msg"]
    last = added.data[-1]
    assert isinstance(last, Message)
    assert (last.content[0].type, last.status) == ("output_text", "completed")
    assert (await client.conversations.items.retrieve(last.id, conversation_id=made.id)) == last
    listed = [one async for one in client.conversations.items.list(made.id, limit=2, order="asc")]
    assert [one.type for one in listed] == ["message", "function_call", "function_call_output", "message"]
    assert (await client.conversations.items.delete(last.id, conversation_id=made.id)).id == made.id
    with pytest.raises(openai.NotFoundError):
        await client.conversations.items.retrieve(last.id, conversation_id=made.id)
    assert (await client.conversations.delete(made.id)).deleted is True
    with pytest.raises(openai.NotFoundError):
        await client.conversations.retrieve(made.id)


async def test_a_conversation_may_begin_with_nothing(house: House):
    made = await house.openai().conversations.create()
    assert made.metadata == {}
    assert [one async for one in house.openai().conversations.items.list(made.id)] == []


@on_both
async def test_pages_hold_every_item_once_in_both_orders(house: House):
    client = house.openai()
    made = await client.conversations.create(items=[_said(str(number)) for number in range(7)])
    assert _texts([one async for one in client.conversations.items.list(made.id, limit=3)]) == list("6543210")
    assert _texts([one async for one in client.conversations.items.list(made.id, limit=3, order="asc")]) == list(
        "0123456"
    )


async def test_an_after_that_is_not_in_the_conversation_is_named(house: House):
    one, other = await house.conversation("a"), await house.conversation("b")
    strange = (await house.ok("GET", f"/v1/conversations/{other}/items"))["first_id"]
    answer = await house.ask("GET", f"/v1/conversations/{one}/items?after={strange}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "after")


async def test_probabilities_are_shown_to_who_asks_for_them(house: House):
    client = house.openai()
    made = await client.conversations.create(items=[_said("yes", "assistant")])
    [plain] = [one async for one in client.conversations.items.list(made.id)]
    [full] = [one async for one in client.conversations.items.list(made.id, include=["message.output_text.logprobs"])]
    assert "logprobs" not in plain.model_dump(exclude_unset=True)["content"][0]
    assert full.model_dump(exclude_unset=True)["content"][0]["logprobs"] == []


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("", {"items": [{"role": "user", "content": "x"}] * 21}, "items"),
        ("", {"items": [{"type": "web_search_call"}]}, "items[0].type"),
        ("", {"items": [{"role": "nobody", "content": "x"}]}, "items[0].role"),
        ("", {"items": [{"type": "item_reference", "id": "msg_1"}]}, "items[0].id"),
        ("", {"metadata": {"k" * 65: "v"}}, "metadata"),
        ("", {"metadata": {"k": "v" * 513}}, "metadata"),
        ("", {"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ("", {"metadata": {"k": 1}}, "metadata.k"),
        ("", {"title": "x"}, "title"),
        ("/{}", {}, "metadata"),
        ("/{}/items", {"items": []}, "items"),
        ("/{}/items", {"items": "x"}, "items"),
    ],
)
async def test_what_is_wrong_is_named(house: House, path: str, body: Any, param: str):
    name = await house.conversation()
    answer = await house.ask("POST", f"/v1/conversations{path.format(name)}", ADA, body)
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["param"] == param, answer.text


async def test_who_may_only_read_cannot_write(house: House):
    name = await house.conversation("x")
    reader = Vouched(ADA.tenant, ADA.key, ADA.subject, frozenset({"chats.read"}))
    assert (await house.ask("GET", f"/v1/conversations/{name}", reader)).status_code == 200
    for method, path in (("POST", ""), ("POST", f"/{name}"), ("DELETE", f"/{name}"), ("POST", f"/{name}/items")):
        body = {"metadata": {}, **({"items": [{"role": "user", "content": "x"}]} if path.endswith("items") else {})}
        answer = await house.ask(method, f"/v1/conversations{path}", reader, body if method == "POST" else None)
        assert answer.status_code in (400, 403), answer.text
    assert (await house.ask("DELETE", f"/v1/conversations/{name}", reader)).status_code == 403


async def test_nobody_is_let_in_without_a_gateways_word(house: House):
    answer = await house.ask("GET", "/v1/chats", None)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


@on_both
async def test_another_s_conversation_is_one_that_does_not_exist(house: House):
    """Object by object and way by way: an id of somebody else's is answered as one that nobody has."""
    name = await house.conversation("secret words")
    item = (await house.ok("GET", f"/v1/conversations/{name}/items"))["first_id"]
    missing, no_item = "conv_" + "0" * 32, "msg_" + "0" * 32
    ways: list[tuple[str, str, Any]] = [
        ("GET", "/v1/conversations/{c}", None), ("POST", "/v1/conversations/{c}", {"metadata": {}}),
        ("DELETE", "/v1/conversations/{c}", None), ("GET", "/v1/conversations/{c}/items", None),
        ("POST", "/v1/conversations/{c}/items", {"items": [{"role": "user", "content": "x"}]}),
        ("GET", "/v1/conversations/{c}/items/{i}", None), ("DELETE", "/v1/conversations/{c}/items/{i}", None),
        ("GET", "/v1/chats/{c}", None), ("POST", "/v1/chats/{c}", {"title": "mine"}),
        ("POST", "/v1/chats/{c}", {"archived": True}),
    ]  # fmt: skip
    for stranger in (BOB, BARE, EVE):
        for method, path, body in ways:
            theirs = await house.ask(method, path.format(c=name, i=item), stranger, body)
            nobodys = await house.ask(method, path.format(c=missing, i=no_item), stranger, body)
            assert theirs.status_code == nobodys.status_code == 404, (method, path)
            assert theirs.text.replace(name, missing).replace(item, no_item) == nobodys.text
        assert (await house.ok("GET", "/v1/chats", stranger))["data"] == []
        assert (await house.ok("GET", "/v1/chats/search?q=secret", stranger))["data"] == []
        assert (await house.ask("GET", "/v1/chats/exports", stranger)).content == b""
    assert len((await house.ok("GET", f"/v1/conversations/{name}/items"))["data"]) == 1


async def test_a_full_conversation_says_so(house: House):
    object.__setattr__(house.service, "settings", msgspec.structs.replace(house.service.settings, items_max=100))
    name = await house.conversation()
    items = {"items": [{"role": "user", "content": "x"}] * 20}
    for _ in range(4):
        await house.ok("POST", f"/v1/conversations/{name}/items", ADA, items)
    answer = await house.ask("POST", f"/v1/conversations/{name}/items", ADA, items)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conversation_full")
    assert len((await house.ok("GET", f"/v1/conversations/{name}/items?limit=100"))["data"]) == 80


async def test_what_happened_is_told_without_content(house: House):
    name = await house.conversation("a secret")
    await house.ok("DELETE", f"/v1/conversations/{name}")
    assert await house.told() == ["conversation.created", "conversation.deleted"]
    assert all("secret" not in event.data for event in house.events)
