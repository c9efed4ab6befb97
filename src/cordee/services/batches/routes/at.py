"""What every endpoint takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Path, Request

from cordee.services.base.paging import Listing, Page, taken
from cordee.services.base.saga import Saga
from cordee.services.batches.service import Service

ID_PATTERN = r"^[0-9A-Za-z_.-]{1,64}$"
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Works:
    """The service, and the kinds of jobs that it knows."""

    service: Service
    sagas: dict[str, Saga]


def _works(request: Request) -> Works:
    works: Works = request.app.state.works
    return works


At = Annotated[Works, Depends(_works)]
PathId = Annotated[str, Path(pattern=ID_PATTERN)]


def listing(shapes: list[S], ids: list[str], page: Page) -> Listing[S]:
    """A page of `shapes`, of which there is one more than the page holds if there is a next one."""
    shown, more = taken(shapes, page)
    kept = ids[: len(shown)]
    return Listing[S](data=shown, first_id=kept[0] if kept else None, last_id=kept[-1] if kept else None, has_more=more)
