"""How a gateway says no: every refusal and failure as status, headers and an OpenAI-shaped body."""

from __future__ import annotations

from cordee.domain.outcome import Refusal, Why
from cordee.http.exchange import Answer
from cordee.wire import errors
from cordee.wire.errors import Invalid

JSON = b"content-type: application/json\r\n"
TEXT = b"content-type: text/plain; charset=utf-8\r\n"


def refusal(status: int, message: str, param: str | None = None, code: str | None = None) -> Answer:
    extra = b"www-authenticate: Bearer\r\n" if status == 401 else b""
    return Answer(status, JSON + extra, errors.body(status, message, param, code))


def refusal_of(refused: Refusal) -> Answer:
    status, body, headers = failure(refused.why, refused.message, refused.retry_after_s)
    return Answer(status, JSON + headers, body)


def failure(why: Why, message: str, retry_after_s: float | None) -> tuple[int, bytes, bytes]:
    """Status, body and further headers of a call that was not served."""
    status = errors.STATUS[why]
    return status, errors.body(status, message, None, why.value), errors.retry_after(retry_after_s)


def no_model(name: str) -> Invalid:
    return Invalid(
        f"the model {name[:100]!r} does not exist or you do not have access to it; GET /v1/models lists those there are",
        "model",
        code=Why.NO_MODEL.value,
        status=404,
    )
