"""OpenAI's error object, and which status and type stand for which trouble.

The official clients choose their exception by the status: 400 BadRequestError, 401 AuthenticationError, 403
PermissionDeniedError, 404 NotFoundError, 409 ConflictError, 422 UnprocessableEntityError, 429 RateLimitError, 5xx
InternalServerError.
"""

from __future__ import annotations

import math
import re

import msgspec

from cordee.domain.outcome import Why

_RETRY_AFTER = re.compile(rb"(?:^|\r\n)retry-after: ([0-9]+)\r\n")
MESSAGE_CHARS_MAX = 512  # an error stays below 1 KiB whatever it quotes


class Invalid(Exception):
    """The request cannot be meant: `param` names the parameter, `message` says what is allowed."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.status = status


class _Error(msgspec.Struct):
    message: str
    type: str
    param: str | None
    code: str | None


class _Envelope(msgspec.Struct):
    error: _Error


_encode = msgspec.json.Encoder().encode

STATUS = {
    Why.BAD_KEY: 401,
    Why.NO_SCOPE: 403,
    Why.REVOKED: 401,
    Why.NO_MODEL: 404,
    Why.RATE: 429,
    Why.CONCURRENCY: 429,
    Why.BUDGET: 429,
    Why.OVERLOADED: 503,
    Why.QUEUE_FULL: 503,
    Why.QUEUE_TIMEOUT: 503,
    Why.DEADLINE: 504,
    Why.NO_REPLICA: 503,
    Why.ATTEMPTS: 503,
    Why.REPLICA: 502,
    Why.DIVERGED: 502,
    Why.QUARANTINED: 422,
    Why.UNFIT: 422,
    Why.SHUTDOWN: 503,
}
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "invalid_request_error",
    414: "invalid_request_error",
    415: "invalid_request_error",
    417: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
    499: "cancelled_error",
}


def body(status: int, message: str, param: str | None = None, code: str | None = None) -> bytes:
    """The JSON of an error."""
    if len(message) > MESSAGE_CHARS_MAX:
        message = message[: MESSAGE_CHARS_MAX - 1] + "…"
    return _encode(_Envelope(_Error(message, TYPES.get(status, "server_error"), param, code)))


def retry_after_in(headers: bytes) -> bytes | None:
    """The seconds that header lines say, as they say them."""
    found = _RETRY_AFTER.search(headers)
    return found[1] if found else None


def retry_after(seconds: float | None) -> bytes:
    """The Retry-After header line, or nothing."""
    return b"" if seconds is None else b"retry-after: %d\r\n" % max(1, math.ceil(seconds))
