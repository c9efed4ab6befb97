"""What every endpoint takes: the service, who asks, and the id in its path."""

from __future__ import annotations

from typing import Annotated, TypeVar

from fastapi import Depends, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from cordee.services.accounts.identify import Shown, by_vouched, identify, refused
from cordee.services.accounts.service import Actor, Service
from cordee.services.base.ground import Ground
from cordee.services.base.identifiers import PATTERN
from cordee.services.base.paging import Listing, Page, taken
from cordee.wire.vouch import HEADER, TO_SERVICES, vouched

_bearer = HTTPBearer(auto_error=False, description="An API key (`sk-cordee-…`) or an access token.")
S = TypeVar("S")


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


At = Annotated[Service, Depends(_service)]


async def _actor(
    request: Request, service: At, _shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Actor:
    return await identify(service, shown_by(request))


async def _person(
    request: Request, service: At, _shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Actor:
    shown = shown_by(request)
    if shown.authorization or shown.keys or HEADER not in request.headers:
        return await identify(service, shown)
    ground: Ground = request.app.state.ground
    said = vouched(request.headers[HEADER], TO_SERVICES, ground.secret, ground.now())
    found = None if said is None else await by_vouched(service, said)
    if found is None:
        raise refused()
    return found


def shown_by(request: Request) -> Shown:
    """The key or token wherever gateways take one from, too."""
    values = request.headers.getlist
    return Shown(tuple(values("authorization")), (*values("x-api-key"), *values("api-key")))


Who = Annotated[Actor, Depends(_actor)]
WhoInBrowser = Annotated[Actor, Depends(_person)]  # or a person for whose cookie a gateway vouches
PathId = Annotated[str, Path(pattern=PATTERN)]
KeyId = Annotated[str, Path(pattern=PATTERN, title="API key")]


def listing(shapes: list[S], ids: list[str], page: Page) -> Listing[S]:
    """A page of `shapes`, of which there is one more than the page holds if there is a next one."""
    shown, more = taken(shapes, page)
    kept = ids[: len(shown)]
    return Listing[S](data=shown, first_id=kept[0] if kept else None, last_id=kept[-1] if kept else None, has_more=more)
