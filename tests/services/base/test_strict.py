"""A JSON body that two readers would read differently is none."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from cordee.services.accounts.routes import account, erasures
from cordee.services.base import errors
from cordee.services.base.strict import Router, StrictRoute, read
from cordee.services.batches.routes import batches, jobs
from cordee.services.chats.routes import chats, conversations
from cordee.services.chats.routes import leaving as chats_leaving
from cordee.services.files.routes import leaving as files_leaving
from cordee.services.files.routes import uploads
from cordee.services.webhooks.routes import belongings, deliveries, endpoints
from cordee.wire.errors import Invalid

REFUSED = {
    "a key twice": b'{"a":1,"a":2}', "a key twice within": b'{"m":{"a":1,"a":2}}',
    "a key twice, spaced": b'{"a" :1,"a":2}', "a key twice, escaped": b'{"a":1,"\\u0061":2}',
    "a key twice in an entry": b'{"m":[{"a":1},{"a":1,"a":2}]}',
    "NaN": b'{"a":NaN}', "infinity": b'{"a":-Infinity}', "beyond doubles": b'{"a":1e400}', "hex": b'{"a":0x1}',
    "half a character": b'{"a":"\\ud800"}', "half a character as a key": b'{"\\udfff":1}', "no UTF-8": b'{"a":"\xff"}',
    "overlong": b'{"a":"\xc0\x80"}', "a surrogate in UTF-8": b'{"a":"\xed\xa0\x80"}',
    "UTF-16": '{"a":1}'.encode("utf-16"), "UTF-32": '{"a":1}'.encode("utf-32-le"), "a byte order mark": b'\xef\xbb\xbf{"a":1}',
    "too deep": b'{"a":' * 100_000, "a deep list": b"[" * 100_000, "two values": b'{"a":1}{"a":1}', "a comment": b'{"a":1}//',
    "a comma too many": b'{"a":1,}', "single quotes": b"{'a':1}", "a raw new line": b'{"a":"\n"}', "a raw NUL": b'{"a":"\x00"}',
}  # fmt: skip
TAKEN: dict[str, tuple[bytes, Any]] = {
    "the same key in two objects": (b'{"a":{"a":1},"b":[{"a":1},{"a":2}]}', {"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}),
    "what looks like a key in a text": (b'{"a":"\\":\\":\\":"}', {"a": '":":":'}), "NUL, escaped": (b'{"a":"\\u0000"}', {"a": "\0"}),
    "a pair": (b'{"a":"\\ud83d\\ude00"}', {"a": "\U0001f600"}), "65 bits": (b'{"a":18446744073709551616}', {"a": 2**64}),
    "a list": (b'[{"a":1}]', [{"a": 1}]), "null": (b"null", None), "spaces": (b' { "a" : 1 } ', {"a": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_be_read_in_two_ways_is_refused(name: str):
    with pytest.raises(Invalid) as refused:
        read(REFUSED[name])
    assert (refused.value.status, refused.value.code) == (400, "invalid_json")
    assert len(refused.value.message) < 512


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_clear_is_taken_as_it_is(name: str):
    body, value = TAKEN[name]
    assert read(body) == value


@pytest.mark.anyio
async def test_an_endpoint_refuses_such_a_body_by_the_key():
    router = Router()

    @router.post("/things")
    async def thing(given: dict[str, Any]) -> dict[str, Any]:
        return given

    app = FastAPI()
    errors.install(app)
    app.include_router(router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://things") as client:
        twice = await client.post("/things", json=None, content=b'{"a":1,"a":2}', headers=JSON)
        assert (twice.status_code, twice.json()["error"]["param"], twice.json()["error"]["code"]) == (
            400,
            "a",
            "invalid_json",
        )
        assert (await client.post("/things", content=b'{"a":1}', headers=JSON)).json() == {"a": 1}
        # Another site's form can be sent without asking first, but not as JSON (CSRF).
        plain = await client.post("/things", content=b'{"a":1}', headers={"content-type": "text/plain"})
        bare = await client.post("/things", content=b'{"a":1}', headers={"content-type": ""})
        assert (plain.status_code, bare.status_code) == (400, 400)


JSON = {"content-type": "application/json"}
ROUTERS = (
    account,
    batches,
    belongings,
    chats,
    chats_leaving,
    conversations,
    deliveries,
    endpoints,
    erasures,
    files_leaving,
    jobs,
    uploads,
)


@pytest.mark.parametrize("module", ROUTERS, ids=lambda module: str(module.__name__))
def test_every_endpoint_that_takes_json_is_such_a_one(module: Any):
    routes = [route for route in module.router.routes if isinstance(route, APIRoute)]
    assert routes
    assert [route.path for route in routes if not isinstance(route, StrictRoute)] == []
