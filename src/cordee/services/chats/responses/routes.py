"""The Responses API's paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Depends, Path, Query, Request, Response
from pydantic import BaseModel

from cordee.services.base.errors import RETRY_AFTER_S, Problem, documented, not_found
from cordee.services.base.identifiers import CHARACTERS_MAX
from cordee.services.base.principal import Asking
from cordee.services.base.strict import Router
from cordee.services.chats.responses import runs
from cordee.services.chats.responses.finding import Found, find, is_waiting
from cordee.services.chats.responses.projection import find as told
from cordee.services.chats.responses.queueing import cancel, queue
from cordee.services.chats.responses.request import LOGPROBS, read
from cordee.services.chats.responses.service import Responses
from cordee.services.chats.responses.streaming import streaming
from cordee.services.chats.responses.translate_out import Status
from cordee.services.chats.responses.waiting import whole
from cordee.services.chats.responses.work import work_of
from cordee.services.chats.service import READ, WRITE, owner_of

PRIORITY = "x-cordee-priority"
INFERENCE = "inference"
PAGE_MAX = 100
_encode = msgspec.json.Encoder().encode


def _here(request: Request) -> Responses:
    here: Responses = request.app.state.responses
    return here


Here = Annotated[Responses, Depends(_here)]
ResponseId = Annotated[str, Path(min_length=1, max_length=CHARACTERS_MAX, pattern=r"^[0-9A-Za-z_-]+$")]
Includes = Annotated[list[str] | None, Query(alias="include[]", max_length=16)]
router = Router(prefix="/v1/responses", tags=["responses"], responses=documented(400, 401, 403, 404, 413, 429, 503))
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["model"],
                    "properties": {
                        "model": {"type": "string", "minLength": 1, "maxLength": 256},
                        "input": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]},
                        "stream": {"type": "boolean"},
                        "background": {"type": "boolean"},
                    },
                    "description": "OpenAI's body of POST /v1/responses; docs/chats.md says what of it is done here.",
                }
            }
        },
    }
}


class ResponseShape(BaseModel, extra="allow"):
    """OpenAI's response object."""

    id: str
    object: Literal["response"] = "response"
    status: str


class ResponseDeleted(BaseModel):
    id: str
    object: Literal["response"] = "response"
    deleted: bool = True


class ResponseItems(BaseModel):
    """A page of the items of a response's input."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


@router.post("", response_model=ResponseShape, openapi_extra=_BODY, responses=documented(409, 422, 500, 502, 504, 508))
async def create(request: Request, here: Here, who: Asking) -> Response:
    """Make a response: whole, as a stream of events, or in the background."""
    asked = read(await request.body())
    who.need(INFERENCE)
    if asked.is_stored:
        who.need(WRITE)
    if asked.previous_response_id is not None or asked.conversation is not None:
        who.need(READ)
    work = await work_of(here.service, who, asked)
    priority = request.headers.get(PRIORITY, "")
    if asked.background:
        response = await queue(here.service, work)
        here.background.wake()
        return await here.following.follow(work.owner, work.id, -1) if asked.stream else _json(response)
    if asked.stream:
        return await streaming(here.service, here.sent, work, priority)
    return _json(await whole(here.service, work, priority))


@router.get("/{response_id}", response_model=ResponseShape)
async def retrieve(
    here: Here,
    who: Asking,
    response_id: ResponseId,
    stream: Annotated[
        bool, Query(description="Its events, as they were and as they come; of one in the background.")
    ] = False,
    starting_after: Annotated[int | None, Query(ge=-1, le=2**31 - 1, description="Events behind this number.")] = None,
    include: Includes = None,
    include_obfuscation: Annotated[bool | None, Query(description="Without effect.")] = None,
) -> Response:
    """A stored response."""
    who.need(READ)
    found = await _found(here, who, response_id)
    if stream:
        if not found.stored.is_background:
            raise Problem(400, "stream: only responses made with background=true can be streamed again.", "stream")
        return await here.following.follow(owner_of(who), response_id, -1 if starting_after is None else starting_after)
    if starting_after is not None:
        raise Problem(400, "starting_after: this goes with stream=true.", "starting_after")
    body = dict(found.stored.body)
    if found.is_running and body["status"] == Status.QUEUED.value:
        body["status"] = Status.IN_PROGRESS.value
    return _json(body)


@router.delete("/{response_id}", response_model=ResponseDeleted)
async def delete(here: Here, who: Asking, response_id: ResponseId) -> ResponseDeleted:
    """Delete a response with all its content. One that is still being made in the background is ended."""
    who.need(WRITE)
    service, owner = here.service, owner_of(who)
    if await is_waiting(service, owner, response_id):
        said = f"{response_id} waits on disk for the database and can be deleted when it is there; try again."
        raise Problem(503, said, code="response_waits", retry_after_s=RETRY_AFTER_S)
    async with service.database.writing() as on:
        if await told(on, owner, response_id) is None:
            raise not_found("response", response_id)
        await runs.remove(on, response_id)
        await service.log.erase(on, response_id, owner, service.now())
    return ResponseDeleted(id=response_id)


@router.post("/{response_id}/cancel", response_model=ResponseShape)
async def cancel_response(here: Here, who: Asking, response_id: ResponseId) -> Response:
    """Cancel a response in the background; one that has ended stays as it is."""
    who.need(WRITE)
    return _json(await cancel(here.service, owner_of(who), response_id))


@router.get("/{response_id}/input_items")
async def input_items(
    here: Here,
    who: Asking,
    response_id: ResponseId,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 20,
    after: Annotated[str | None, Query(max_length=CHARACTERS_MAX)] = None,
    order: Literal["asc", "desc"] = "desc",
    include: Includes = None,
) -> ResponseItems:
    """The items of its own input, the last first unless `order` says otherwise."""
    who.need(READ)
    given = (await _found(here, who, response_id)).stored.input
    items = list(given) if order == "asc" else list(reversed(given))
    start = 0
    if after is not None:
        start = next((at + 1 for at, item in enumerate(items) if item["id"] == after), -1)
        if start < 0:
            raise Problem(400, "after: no item of this response has this id.", "after", "not_found")
    page = [_shown(item, include or ()) for item in items[start : start + limit]]
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return ResponseItems(data=page, first_id=first, last_id=last, has_more=start + limit < len(items))


async def _found(here: Responses, who: Asking, response_id: str) -> Found:
    found = await find(here.service, owner_of(who), response_id)
    if found is None:
        raise not_found("response", response_id)
    return found


def _shown(item: Mapping[str, Any], include: Sequence[str]) -> dict[str, Any]:
    if item["type"] != "message" or LOGPROBS in include:
        return dict(item)
    parts = [{name: value for name, value in part.items() if name != "logprobs"} for part in item["content"]]
    return {**item, "content": parts}


def _json(response: Mapping[str, Any]) -> Response:
    return Response(_encode(response), media_type="application/json", headers={"cache-control": "no-store"})
