"""What every endpoint takes: the service, who asks, and the ids in its path."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Query, Request

from cordee.services.base.identifiers import PATTERN
from cordee.services.base.principal import Asking, Principal
from cordee.services.chats.log import Owner
from cordee.services.chats.routes.shapes import Include
from cordee.services.chats.service import READ, WRITE, Service, owner_of

INCLUDES_MAX = 16


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _reader(asking: Asking) -> Owner:
    asking.need(READ)
    return owner_of(asking)


def _writer(asking: Asking) -> Owner:
    asking.need(WRITE)
    return owner_of(asking)


def _writing(asking: Asking) -> Principal:
    asking.need(WRITE)
    return asking


def _included(
    include: Annotated[list[Include], Query(max_length=INCLUDES_MAX)] = [],  # noqa: B006 - FastAPI copies it
    bracketed: Annotated[list[Include], Query(alias="include[]", max_length=INCLUDES_MAX)] = [],  # noqa: B006
) -> frozenset[str]:
    """As OpenAI's clients write lists in a query, and as everybody else does."""
    return frozenset((*include, *bracketed))


At = Annotated[Service, Depends(_service)]
Reader = Annotated[Owner, Depends(_reader)]
Writer = Annotated[Owner, Depends(_writer)]
Writing = Annotated[Principal, Depends(_writing)]
PathId = Annotated[str, Path(pattern=PATTERN)]
Included = Annotated[frozenset[str], Depends(_included)]
