"""One response that is to be made: what was asked for, by whom, on which history; and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cordee.domain.record import record
from cordee.services.base.identifiers import new
from cordee.services.base.principal import Principal
from cordee.services.chats.log import NEW, Owner, Told
from cordee.services.chats.recorder import Telling
from cordee.services.chats.responses import telling
from cordee.services.chats.responses.history import before
from cordee.services.chats.responses.items import Item, taken
from cordee.services.chats.responses.naming import RESPONSE, names
from cordee.services.chats.responses.request import Create
from cordee.services.chats.responses.translate_out import head
from cordee.services.chats.service import Service, owner_of
from cordee.services.chats.telling import item_added
from cordee.wire.vouch import Vouched


@record
class Work:
    """`fields`: what stays of the response object; `given`: its input items; `items`: all that the model is to read."""

    id: str
    owner: Owner
    caller: Vouched
    asked: Create
    fields: Mapping[str, Any]
    given: Sequence[Item]
    items: Sequence[Item]


async def work_of(service: Service, principal: Principal, asked: Create) -> Work:
    """Raises Problem and Invalid; asks the database only where something came before."""
    owner, response_id = owner_of(principal), new(RESPONSE)
    past = await before(service, owner, asked)
    given = taken(asked.input, names(response_id), past)
    fields = head(asked, response_id, service.now())
    return Work(response_id, owner, principal.vouched, asked, fields, given, [*past, *given])


def begun(work: Work, response: Mapping[str, Any]) -> Telling:
    """The first thing told of a response."""
    told = telling.begun(response, work.given, work.caller)
    return Telling(work.id, work.owner, NEW, (told,), work.asked.conversation_id or "")


class _Written(msgspec.Struct, array_like=True):
    id: str
    tenant: str
    subject: str
    part_of: str
    data: dict[str, Any]


def written(beginning: Telling) -> bytes:
    """The first thing told of a response, to be read by `read_back`."""
    told, owner = beginning.happened[0], beginning.owner
    return msgspec.json.encode(_Written(told.id, owner.tenant, owner.subject, beginning.part_of, dict(told.data)))


def read_back(response_id: str, data: bytes) -> Telling | None:
    """None for what was not written whole."""
    try:
        found = msgspec.json.decode(data, type=_Written)
    except msgspec.MsgspecError:
        return None
    told = Told(found.id, telling.BEGUN, found.data)
    return Telling(response_id, Owner(found.tenant, found.subject), NEW, (told,), found.part_of)


def at_once(work: Work, first: Mapping[str, Any], response: Mapping[str, Any]) -> list[Telling]:
    """Beginning and end of a response together."""
    beginning = begun(work, first)
    told = (*beginning.happened, telling.ended(response))
    whole = Telling(work.id, work.owner, NEW, told, beginning.part_of)
    return [whole, *said_in_conversation(work.owner, response, work.given)]


def ended(owner: Owner, response: Mapping[str, Any], given: Sequence[Item]) -> list[Telling]:
    """The end of a response, and what it adds to its conversation."""
    end = Telling(str(response["id"]), owner, None, (telling.ended(response),))
    return [end, *said_in_conversation(owner, response, given)]


def said_in_conversation(owner: Owner, response: Mapping[str, Any], given: Sequence[Item]) -> list[Telling]:
    """Input and output, in order. What was said when an answer broke off was said."""
    conversation = response["conversation"]
    added = tuple(item_added(item) for item in (*given, *response["output"]))
    return [Telling(conversation["id"], owner, None, added)] if conversation is not None and added else []
