"""A title made by a model: asked at the gateways like any call, on behalf of the one whose conversation it is."""

from __future__ import annotations

import msgspec

from cordee.services.base.door import Asked, DoorError
from cordee.services.base.errors import Problem
from cordee.services.base.principal import Principal
from cordee.services.chats import conversations, store
from cordee.services.chats.service import Service, owner_of
from cordee.services.chats.store import Conversation
from cordee.services.chats.titles import TITLE_CHARACTERS, tidy
from cordee.services.chats.words import text_of

_ITEMS_READ = 6  # of the beginning
_CHARACTERS_READ = 1000  # of each of them
_TOKENS = 24  # enough for a title
_ASKED = "Write a title of at most six words for the conversation that follows. Answer with the title alone."
_RETRY_S = 5


class _Said(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Said


class _Answer(msgspec.Struct):
    choices: list[_Choice]


_DECODER = msgspec.json.Decoder(_Answer)


async def give_title(service: Service, principal: Principal, name: str) -> Conversation:
    """Let the configured model say what the conversation is about, and call it so. Raises Problem (404; 409 where there is no model
    or nothing to name; 502, 503 when no title came)."""
    owner = owner_of(principal)
    model = service.settings.title_model
    if not model:
        raise Problem(
            409, "No model makes titles here: name one in services.chats.title_model, or send a title.", "title"
        )
    await conversations.find(service, owner, name)
    async with service.database.reading() as on:
        first = await store.items_of(on, owner, name, None, _ITEMS_READ)
    told = "\n".join(
        f"{one.body.get('role')}: {said[:_CHARACTERS_READ]}" for one in first if (said := text_of(one.body))
    )
    if not told:
        raise Problem(409, "There is nothing in this conversation yet that could give it a title.", code="empty")
    return await conversations.change(service, owner, name, title=await _asked(service, principal, model, told))


async def _asked(service: Service, principal: Principal, model: str, told: str) -> str:
    body = {
        "model": model, "max_completion_tokens": _TOKENS, "temperature": 0,
        "messages": [{"role": "system", "content": _ASKED}, {"role": "user", "content": told}],
    }  # fmt: skip
    asked = Asked("POST", "/v1/chat/completions", body, priority="batch", timeout_s=service.settings.title_s)
    try:
        answer = await service.ground.door.ask(principal.vouched, asked)
    except DoorError as error:
        raise Problem(503, "No model answered; try again.", code="model_away", retry_after_s=_RETRY_S) from error
    if answer.status != 200:
        raise Problem(
            503,
            f"The model was not let answer ({answer.status}); try again.",
            code="model_away",
            retry_after_s=_RETRY_S,
        )
    try:
        said = _DECODER.decode(answer.body).choices[0].message.content or ""
    except (msgspec.DecodeError, IndexError) as error:
        raise Problem(502, "The model's answer cannot be read; send a title.", code="model_broken") from error
    title = tidy(said.strip(' "\n'), TITLE_CHARACTERS)
    if not title:
        raise Problem(502, "The model said nothing; send a title.", code="model_broken")
    return title
