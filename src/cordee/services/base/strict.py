"""JSON bodies mean one thing, whoever reads them: what two readers would read differently is refused before a shape is looked for.

FastAPI reads JSON by Python's own rules: the last of two equal keys wins, NaN is a number, half a character is text, UTF-16 is guessed.
A `Router` reads by the rules that models are called by (wire/strict.py; RFC 8259, 8.1 and RFC 7493).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from cordee.wire.errors import Invalid
from cordee.wire.strict import decode, refuse_repeated

INVALID_JSON = "invalid_json"
_anything = msgspec.json.Decoder()


def read(body: bytes) -> Any:
    """The value of a JSON body. Raises Invalid."""
    try:
        value: Any = decode(_anything, body)
        if isinstance(value, dict):
            refuse_repeated(body, _keys_in(value) - len(value))
    except Invalid as error:
        raise Invalid(error.message, error.param, error.code or INVALID_JSON) from error
    return value


def _keys_in(value: Any) -> int:
    """How many keys all objects in it have."""
    count, waiting = 0, [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            count += len(one)
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return count


class _StrictRequest(Request):
    async def json(self) -> Any:
        return read(await self.body())


class StrictRoute(APIRoute):
    """An endpoint whose JSON body is read so."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]  # a coroutine is awaitable
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strictly


class Router(APIRouter):
    """An APIRouter of such endpoints. Takes what that one takes."""

    def __init__(self, **said: Any) -> None:
        super().__init__(route_class=StrictRoute, **said)
