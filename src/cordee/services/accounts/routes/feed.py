"""For gateways only: the feed of who there is. Asked by the installation itself, and sealed so that nobody else can have answered."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from cordee.services.accounts.feed import Feed
from cordee.services.base.principal import SYSTEM, Asking, Principal
from cordee.wire import credentials

WAIT_S_MAX = 60.0
router = APIRouter(include_in_schema=False)  # no client's business


def system(who: Asking) -> Principal:
    """The installation itself asks. Raises Problem (401, 403)."""
    who.need(SYSTEM)
    return who


@router.get(credentials.PATH, dependencies=[Depends(system)])
async def feed(
    request: Request,
    epoch: Annotated[str, Query(max_length=64)] = "",
    after: Annotated[int, Query(ge=0, lt=2**53)] = 0,
    since: Annotated[int, Query(ge=0, lt=2**53)] = 0,
    wait_s: Annotated[float, Query(ge=0, le=WAIT_S_MAX, allow_inf_nan=False)] = 0.0,
    form: Annotated[int, Query(alias="format", ge=1)] = 1,
) -> Response:
    """One page; see wire/credentials.py."""
    following: Feed = request.app.state.feed
    data = credentials.encode(await following.page(epoch, after, since, wait_s, form))
    secret = request.app.state.ground.secret
    headers = {credentials.SEAL_HEADER: credentials.seal(data, secret), "cache-control": "no-store"}
    return Response(data, headers=headers, media_type="application/json")
