"""The list of one's conversations, titles, search, export and erasure."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.services.base.door import Whole
from cordee.services.chats.words import folded, units
from cordee.wire.vouch import Vouched
from tests.services import on_both
from tests.services.chats.conftest import ADA, BARE, BOB, EVE, SYSTEM, House

pytestmark = pytest.mark.anyio


@on_both
async def test_one_s_own_conversations_are_listed_the_newest_first(house: House):
    names = [await house.conversation(str(number)) for number in range(3)]
    await house.conversation("another's", caller=BOB)
    bare = await house.conversation("the tenant's", caller=BARE)
    await house.ok("POST", f"/v1/chats/{names[1]}", ADA, {"archived": True})
    listed = await house.ok("GET", "/v1/chats?limit=2")
    assert [one["title"] for one in listed["data"]] == ["2", "1"]
    assert listed["has_more"] is True
    rest = await house.ok("GET", f"/v1/chats?after={listed['last_id']}")
    assert [one["id"] for one in rest["data"]] == [names[0]]
    assert [one["id"] for one in (await house.ok("GET", "/v1/chats?archived=true"))["data"]] == [names[1]]
    assert [one["id"] for one in (await house.ok("GET", "/v1/chats?archived=false"))["data"]] == [names[2], names[0]]
    assert [one["id"] for one in (await house.ok("GET", "/v1/chats", BARE))["data"]] == [bare]


async def test_a_title_is_the_beginning_of_the_first_question_until_one_is_chosen(house: House):
    name = await house.conversation(
        "  How do\n bees \x07 find their way home across several miles of open country by night? "
    )
    assert (await house.ok("GET", f"/v1/chats/{name}"))["title"] == (
        "How do bees find their way home across several miles of open country by night?"
    )
    changed = await house.ok("POST", f"/v1/chats/{name}", ADA, {"title": "Bees"})
    assert changed["title"] == "Bees"
    for wrong in ("", " ", "a\nb", "x" * 201, "\x00"):
        answer = await house.ask("POST", f"/v1/chats/{name}", ADA, {"title": wrong})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "title")


async def test_a_model_makes_a_title_on_behalf_of_the_caller(house: House):
    name = await house.conversation("How do bees find home?")
    refused = await house.ask("POST", f"/v1/chats/{name}/title")
    assert refused.status_code == 409
    object.__setattr__(house.service, "settings", msgspec.structs.replace(house.service.settings, title_model="m"))
    away = await house.ask("POST", f"/v1/chats/{name}/title")
    assert (away.status_code, "retry-after" in away.headers) == (503, True)
    said = json.dumps({"choices": [{"message": {"content": '"Bees\n and home"'}}]}).encode()
    house.door.answers = [Whole(200, {}, b"{}"), Whole(200, {}, said), Whole(429, {}, b"{}")]
    assert (await house.ask("POST", f"/v1/chats/{name}/title")).status_code == 502
    assert (await house.ok("POST", f"/v1/chats/{name}/title"))["title"] == "Bees and home"
    assert (await house.ask("POST", f"/v1/chats/{name}/title")).status_code == 503
    caller, asked = house.door.asked[-1]
    assert (caller.key, asked.path, asked.priority) == (ADA.key, "/v1/chat/completions", "batch")
    assert (await house.ask("POST", f"/v1/chats/{name}/title", BOB)).status_code == 404


@on_both
async def test_search_finds_words_and_phrases_in_one_s_own_messages(house: House):
    one = await house.conversation("The queen bee lays eggs.", "Ünïcode CAFÉ au lait", "蜜蜂找到回家的路")
    two = await house.conversation("Eggs and bacon, with a bee-like buzz; foo_bar 1e5 v1.2")
    await house.conversation("queen bee of another", caller=BOB)
    await house.conversation("queen bee elsewhere", caller=EVE)

    async def found(question: str) -> list[str]:
        answer = await house.client.get("/v1/chats/search", params={"q": question}, headers=house.headers(ADA))
        assert answer.status_code == 200, answer.text
        return [hit["conversation"] for hit in answer.json()["data"]]

    assert await found("bee") == [two, one]
    assert await found("bee eggs") == [two, one]
    assert await found('"queen bee"') == [one]
    assert await found('"bee queen"') == []
    assert await found("cafe UNICODE") == [one]
    assert await found("蜜蜂") == [one]
    assert await found("蜂蜜") == []
    assert await found("foo_bar") == [two]
    assert await found("1e5") == [two]
    assert await found("v1.2") == [two]
    assert await found("nothing-of-this-kind") == []
    assert await found("o2a8ad69a76fe2744c802d5c8 OR eggs") == []
    for strange in ("' OR 1=1 --", '"unclosed', "a:b*", "(x)", "NEAR(a b)", "& | !", "\\"):
        assert isinstance(await house.ask("GET", f"/v1/chats/search?q={strange.replace('&', '%26')}"), object)


async def test_pages_of_a_search_hold_every_hit_once(house: House):
    for number in range(5):
        await house.conversation(f"same word {number}")
    first = await house.ok("GET", "/v1/chats/search?q=same&limit=3")
    rest = await house.ok("GET", f"/v1/chats/search?q=same&limit=3&after={first['last_id']}")
    assert [hit["text"] for hit in (*first["data"], *rest["data"])] == [f"same word {n}" for n in (4, 3, 2, 1, 0)]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    for wrong, param in (
        ("q=%20.%20", "q"),
        ("q=" + "+".join(map(str, range(17))), "q"),
        ("q=same&after=hit_" + "0" * 32, "after"),
    ):
        answer = await house.ask("GET", f"/v1/chats/search?{wrong}")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@given(st.text(max_size=200))
def test_words_are_folded_once_and_for_all(text: str):
    once = folded(text)
    assert folded(once) == once
    assert all(unit == folded(unit) for unit in units(text))


@on_both
async def test_an_export_holds_everything_of_one_subject(house: House):
    name = await house.conversation("mine")
    await house.conversation("another's", caller=BOB)
    lines = [json.loads(line) for line in (await house.ask("GET", "/v1/chats/exports")).text.splitlines()]
    assert [(line["stream"], line["type"]) for line in lines] == [(name, "conversation.created"), (name, "item.added")]
    assert lines[1]["data"]["item"]["content"][0]["text"] == "mine"
    assert (await house.ask("GET", "/v1/chats/exports?user=us_ada", BOB)).status_code == 403
    manages = Vouched("tn_one", "key_admin", "us_admin", frozenset({"users.write"}))  # users, and reads no chats
    assert (await house.ask("GET", "/v1/chats/exports?user=us_ada", manages)).status_code == 403
    admin = Vouched("tn_one", "key_admin", "us_admin", frozenset({"users.write", "chats.read"}))
    assert (await house.ask("GET", "/v1/chats/exports?user=us_ada", admin)).text.count("\n") == 2
    elsewhere = Vouched("tn_two", "key_admin", "us_admin", admin.scopes)
    assert (await house.ask("GET", "/v1/chats/exports?user=us_bob", elsewhere)).text == ""
    assert (await house.ask("GET", f"/v1/conversations/{name}", manages)).status_code == 403
    assert (await house.ask("GET", f"/v1/conversations/{name}", admin)).status_code == 404
    assert (await house.told()).count("history.exported") == 3


@on_both
async def test_an_erasure_takes_bounded_steps_and_only_its_own(house: House):
    object.__setattr__(house.service, "settings", msgspec.structs.replace(house.service.settings, erase_max=2))
    for _ in range(3):
        await house.conversation("x")
    bobs = await house.conversation("x", caller=BOB)
    eves = await house.conversation("x", caller=EVE)
    assert (await house.ask("POST", "/v1/chats/erasures", ADA, {"tenant": "tn_one"})).status_code == 403
    ada: Any = {"tenant": "tn_one", "user": "us_ada"}
    done = [(await house.ok("POST", "/v1/chats/erasures", SYSTEM, ada))["done"] for _ in range(3)]
    assert done == [False, True, True]
    assert (await house.ok("GET", "/v1/chats"))["data"] == []
    assert (await house.ok("GET", f"/v1/chats/{bobs}", BOB))["id"] == bobs
    assert (await house.ok("POST", "/v1/chats/erasures", SYSTEM, {"tenant": "tn_one"}))["done"] is True
    assert (await house.ask("GET", f"/v1/chats/{bobs}", BOB)).status_code == 404
    assert (await house.ok("GET", f"/v1/chats/{eves}", EVE))["id"] == eves


@on_both
async def test_zeros_and_strange_letters_are_kept_or_named(house: House):
    strange = "a\x00b \u202e \ud83d\ude00 \uffff"
    body = {"items": [{"role": "user", "content": strange}], "metadata": {"k\x00": strange}}
    name = (await house.ok("POST", "/v1/conversations", ADA, body))["id"]
    [item] = (await house.ok("GET", f"/v1/conversations/{name}/items"))["data"]
    assert item["content"][0]["text"] == strange.encode("utf-16", "surrogatepass").decode("utf-16")
    assert (await house.ok("GET", f"/v1/chats/{name}"))["title"].startswith("a b")
    assert (await house.ok("GET", "/v1/chats/search?q=b%00"))["data"][0]["conversation"] == name
    assert (await house.ask("GET", "/v1/chats/exports?user=%00")).status_code == 400
    assert (await house.ask("POST", "/v1/chats/erasures", SYSTEM, {"tenant": "\x00"})).status_code == 400
    lone = await house.ask(
        "POST", f"/v1/conversations/{name}/items", ADA, b'{"items":[{"role":"user","content":"\\ud800"}]}'
    )
    assert (lone.status_code, lone.json()["error"]["code"]) == (400, "invalid_json")
