"""Services are callers: what they ask of models and of each other comes in by the front door, is limited, queued and recorded like
everybody's, and is asked on behalf of the one for whom it is done.

This is the port. `services/base/gateways.py` is the way to real gateways: a gateway that dies in the middle of an answer is replaced by
the next one, which goes on behind the last event that came.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from cordee.domain.record import record
from cordee.wire.vouch import Vouched


@record
class Asked:
    """One request. `path` with its query; `body`: JSON, bytes, or pieces of bytes that cannot be sent a second time; `key`: the
    Idempotency-Key, under which a repeat joins the running call or replays its answer, "" for none; `priority`: "" for what the
    caller has; `timeout_s`: for the whole answer."""

    method: str
    path: str
    body: Any = None
    key: str = ""
    priority: str = ""
    timeout_s: float = 600.0
    headers: Mapping[str, str] | None = None


class DoorError(Exception):
    """No whole answer came: no gateway could be reached, or it broke off and could not be gone on with. Asking again later, with
    the same Idempotency-Key, is safe."""


class RefusedError(Exception):
    """The gateways said no: `status` and `body` (OpenAI's error object) as they came, `retry_after_s` where they said it."""

    def __init__(self, status: int, body: bytes, retry_after_s: float | None = None) -> None:
        super().__init__(f"refused with {status}")
        self.status = status
        self.body = body
        self.retry_after_s = retry_after_s


@record
class Whole:
    """A whole answer. Names of headers are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@record
class Streamed:
    """One event of a stream: its id ("" where it has none) and its data, which is `[DONE]` at the end."""

    id: str
    data: bytes


class Door(Protocol):
    """One per process. Every method raises DoorError."""

    async def ask(self, caller: Vouched, asked: Asked) -> Whole:
        """The whole answer, whatever its status."""
        ...

    def stream(self, caller: Vouched, asked: Asked) -> AbstractAsyncContextManager[AsyncIterator[Streamed]]:
        """Server-sent events, each exactly once, also when gateways die meanwhile. Raises RefusedError where the answer is no
        stream. Leaving the block before the end cancels the call."""
        ...

    def fetch(self, caller: Vouched, asked: Asked) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes of an answer, in pieces: a file's content. Raises RefusedError."""
        ...
