"""No body of a request is larger than its service takes: refused by what it says of itself, or as soon as it has gone too far."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cordee.services.base.errors import answer

TOO_LARGE = 413


class BodyLimit:
    """ASGI middleware: at most `bytes_max` of body."""

    def __init__(self, app: ASGIApp, bytes_max: int) -> None:
        self._app = app
        self._bytes_max = bytes_max
        self._said = f"The body is larger than the {bytes_max} bytes that this path takes; send less."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        said = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not said.isdigit() or len(said.lstrip(b"0")) > len(str(self._bytes_max)) or int(said) > self._bytes_max:
            await answer(TOO_LARGE, self._said)(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._bytes_max:
                raise HTTPException(
                    TOO_LARGE, self._said
                )  # inside the endpoint that reads, so it is answered like any other
            return message

        await self._app(scope, counted, send)
