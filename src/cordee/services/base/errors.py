"""What goes wrong in a service is said in OpenAI's error object, by one place.

Rules and stores raise a `Problem`; what FastAPI finds wrong with a request becomes a 400 that names the parameter, and an id in the path
that can be none a 404, because there is nothing under it; a database that is away is a 503 that says when to come again. A fault of our
own is a 500 that says nothing of its inside.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from cordee.services.base.database import AwayError
from cordee.wire.errors import Invalid, body

RETRY_AFTER_S = 2  # what waits for a database that is away
_CHARACTERS_QUOTED = 128  # of a parameter's name, or of an id that is none
_PATH = "path"
_PLACES = frozenset({"body", "query", _PATH, "header", "cookie"})
_log = logging.getLogger(__name__)


class Problem(Exception):
    """A *no* that the client is told: `message` says why and what to do; `param` names the parameter."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s


def not_found(kind: str, name: str) -> Problem:
    """There is no such thing, or it is another tenant's: one cannot tell."""
    return Problem(404, f"There is no {kind} {name}.", code="not_found")


def conflict(message: str, param: str | None = None) -> Problem:
    return Problem(409, message, param, "conflict")


class ErrorObject(BaseModel):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorObject = Field(description="What happened and what to do next.")


ERROR_SCHEMA = "#/components/schemas/ErrorBody"


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These statuses for an endpoint's description, each with the error object. Told by its name, which description.describe explains:
    a model here would be one more validator for each status of each endpoint of each application, and errors are never validated."""
    return {status: {"content": {"application/json": {"schema": {"$ref": ERROR_SCHEMA}}}} for status in statuses}


def answer(
    status: int, message: str, param: str | None = None, code: str | None = None, retry_after_s: int | None = None
) -> Response:
    """An error as a response."""
    headers = {"cache-control": "no-store"}
    if retry_after_s is not None:
        headers["retry-after"] = str(retry_after_s)
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(body(status, message, param, code), status, headers, "application/json")


def install(app: FastAPI) -> None:
    """Answer every error of `app` so."""

    async def problem(_request: Request, error: Problem) -> Response:
        return answer(error.status, error.message, error.param, error.code, error.retry_after_s)

    async def invalid(_request: Request, error: Invalid) -> Response:
        return answer(error.status, error.message, error.param, error.code)

    async def unreadable(request: Request, error: RequestValidationError) -> Response:
        errors = error.errors()
        nameless = next((found for found in errors if found["loc"][0] == _PATH), None)
        if nameless is not None:
            return await problem(request, not_found(_kind(request, nameless["loc"][1]), _quoted(nameless["input"])))
        return answer(400, *_first(errors))

    async def refused(request: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, Invalid):  # FastAPI's way to say that a body could not be read (strict.py)
            return await invalid(request, error.__cause__)
        response = answer(error.status_code, SAID.get(error.status_code, str(error.detail)))
        for name, value in (error.headers or {}).items():
            response.headers[name] = value
        return response

    async def away(_request: Request, error: AwayError) -> Response:
        return answer(503, f"This cannot be done now: {error}", code="database_away", retry_after_s=RETRY_AFTER_S)

    async def broken(request: Request, error: Exception) -> Response:
        path = _quoted(request.url.path).encode("unicode_escape").decode()
        _log.error("%s %s failed", request.method, path, exc_info=error)
        return answer(
            500, "Something here is broken; it has been written to the log. Try again later.", code="internal_error"
        )

    handlers: Sequence[tuple[type[Exception], Callable[[Request, Any], Awaitable[Response]]]] = (
        (Problem, problem), (Invalid, invalid), (RequestValidationError, unreadable), (HTTPException, refused),
        (AwayError, away), (Exception, broken),
    )  # fmt: skip
    for kind, handler in handlers:
        app.add_exception_handler(kind, handler)


SAID = {
    400: "The body cannot be read as what its Content-Type says; send JSON in UTF-8, or the form that the path takes.",
    404: "There is nothing at this path; /v1/SERVICE/openapi.json lists what a service has, such as /v1/files/openapi.json.",
    405: "This path does not answer to this method; the header Allow of this answer lists those that it does answer to.",
}


def _kind(request: Request, parameter: str) -> str:
    """What the parameter of the path names: its title, or what its own name says (`file_id`: a file)."""
    fields = request.scope["route"].dependant.path_params
    title = next((field.field_info.title for field in fields if field.alias == parameter), None)
    return title or parameter.removesuffix("_id")


def _quoted(text: str) -> str:
    return text[:_CHARACTERS_QUOTED]


def _first(errors: Sequence[Any]) -> tuple[str, str | None, str | None]:
    """Message, parameter and code of the first of what was found wrong. Never the value: it may be a password."""
    if not errors:
        return "The request is not valid.", None, None
    found = errors[0]
    path = [str(part) for part in found["loc"] if part not in _PLACES]
    if found["type"] == "json_invalid":
        return SAID[400], None, "invalid_json"
    name = ".".join(path)[:_CHARACTERS_QUOTED] or None
    said = str(found["msg"]).removeprefix("Value error, ")
    if found["type"] == "missing":
        said = "it is required"
    elif found["type"] == "extra_forbidden":
        said = "there is no such parameter here"
    return f"{name or 'The body'}: {said}.", name, found["type"]
