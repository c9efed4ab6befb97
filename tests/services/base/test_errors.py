from __future__ import annotations

from typing import Annotated

import httpx
import pytest
from fastapi import FastAPI, Path
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError

from cordee.services.base import errors
from cordee.services.base.database import AwayError
from cordee.services.base.errors import not_found
from cordee.services.base.identifiers import PATTERN

pytestmark = pytest.mark.anyio
UNKNOWN = "thing_" + "0" * 32


class Given(BaseModel):
    size: int


@pytest.fixture
def client() -> httpx.AsyncClient:
    app = FastAPI()
    errors.install(app)

    @app.get("/things/{thing_id}")
    async def thing(thing_id: Annotated[str, Path(pattern=PATTERN)], limit: int = 1) -> None:
        raise not_found("thing", thing_id)

    @app.post("/keys/{id}")
    async def key(id: Annotated[str, Path(pattern=PATTERN, title="API key")], given: Given) -> None:
        raise AwayError("it sleeps")

    @app.get("/broken")
    async def broken() -> None:
        raise DBAPIError("SELECT secret", {}, ValueError("hunter2"))

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://things")


@pytest.mark.parametrize(
    ("path", "name"), [("x", "x"), ("%00", "\0"), ("thing_1'--", "thing_1'--"), ("x?limit=none", "x")]
)
async def test_an_id_that_can_be_none_is_answered_like_one_that_never_was(
    client: httpx.AsyncClient, path: str, name: str
):
    never_was = (await client.get(f"/things/{UNKNOWN}")).json()["error"]
    answer = await client.get(f"/things/{path}")
    told = {**never_was, "message": never_was["message"].replace(UNKNOWN, name)}
    assert (answer.status_code, answer.json()["error"]) == (404, told)


async def test_what_a_path_names_is_said_by_its_title_where_it_has_one(client: httpx.AsyncClient):
    answer = await client.post("/keys/x", json={"size": "none"})
    assert (answer.status_code, answer.json()["error"]["message"]) == (404, "There is no API key x.")


async def test_a_method_that_is_none_and_a_path_that_is_none_say_what_there_is(client: httpx.AsyncClient):
    answer = await client.delete(f"/things/{UNKNOWN}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert "Allow" in answer.json()["error"]["message"]
    assert "openapi.json" in (await client.get("/nothing")).json()["error"]["message"]


async def test_an_endless_id_is_not_said_back(client: httpx.AsyncClient):
    assert len((await client.get(f"/things/{'x' * 5000}")).content) < 1024


async def test_a_bad_body_is_a_400_that_names_the_parameter(client: httpx.AsyncClient):
    answer = await client.post(f"/keys/{UNKNOWN}", json={"size": "none"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "size")


async def test_a_database_that_is_away_says_when_to_come_again(client: httpx.AsyncClient):
    answer = await client.post(f"/keys/{UNKNOWN}", json={"size": 1})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


async def test_a_fault_of_ours_says_nothing_of_its_inside(client: httpx.AsyncClient):
    answer = await client.get("/broken")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert "hunter2" not in answer.text
