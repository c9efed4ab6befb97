"""What endpoints take: the service, an id in the path, a page, and forms that are read as they come."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Depends, Path, Query, Request

from cordee.services.base.identifiers import PATTERN
from cordee.services.base.paging import Page
from cordee.services.files.form import Form
from cordee.services.files.routes.shapes import PurposeName
from cordee.services.files.rules.terms import KEPT_S_MAX, KEPT_S_MIN
from cordee.services.files.service import Service

PAGE_MAX = 10_000  # as OpenAI has it
REQUEST_KEY = "idempotency-key"
REQUEST_KEY_CHARACTERS_MAX = 255
PathId = Annotated[str, Path(pattern=PATTERN)]


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


At = Annotated[Service, Depends(_service)]


def _page(
    service: At,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX, description="How many entries at most.")] = PAGE_MAX,
    after: Annotated[str | None, Query(pattern=PATTERN, description="The `last_id` of the page before.")] = None,
    order: Annotated[Literal["asc", "desc"], Query(description="By age; `desc`: the newest first.")] = "desc",
) -> Page:
    return Page(min(limit, service.settings.page_max), after, order == "desc")


AskedPage = Annotated[Page, Depends(_page)]


def form_of(request: Request) -> Form:
    """The body, as it comes. Raises Problem."""
    return Form(request.headers.get("content-type", ""), request.stream())


def _described(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


_BYTES = {"type": "string", "format": "binary"}
FILE_FORM = _described(
    {
        "file": _BYTES,
        "purpose": {"type": "string", "enum": list(PurposeName.__args__)},  # type: ignore[attr-defined]  # a Literal's values
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": KEPT_S_MIN, "maximum": KEPT_S_MAX},
    },
    ["file", "purpose"],
)
PART_FORM = _described({"data": _BYTES}, ["data"])
