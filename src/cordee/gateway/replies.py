"""How a gateway says no: every refusal and failure as status, headers and an OpenAI-shaped body."""

from __future__ import annotations

from cordee.domain.outcome import Refusal, Why
from cordee.http.exchange import Answer
from cordee.wire import errors
from cordee.wire.errors import Invalid

CHAT_PATH = b"/v1/chat/completions"
REALTIME_PATH = b"/v1/realtime/chat"  # here, because web gateways refuse it without loading what answers it
JSON = b"content-type: application/json\r\n"
SOON_S = 1.0  # after which to ask again where nothing better is known
TEXT = b"content-type: text/plain; charset=utf-8\r\n"


def refusal(status: int, message: str, param: str | None = None, code: str | None = None) -> Answer:
    extra = b"www-authenticate: Bearer\r\n" if status == 401 else errors.retry_after(SOON_S) if status == 503 else b""
    return Answer(status, JSON + extra, errors.body(status, message, param, code))


def refusal_of(refused: Refusal, limits: bytes = b"") -> Answer:
    """`limits`: header lines that say what is left."""
    status, body, headers = failure(refused.why, refused.message, refused.retry_after_s)
    return Answer(status, JSON + headers + limits, body)


def failure(why: Why, message: str, retry_after_s: float | None) -> tuple[int, bytes, bytes]:
    """Status, body and further headers of a call that was not served."""
    status = errors.STATUS[why]
    headers = errors.retry_after(retry_after_s)
    if why is Why.BUDGET:
        headers += b"x-should-retry: false\r\n"  # the official clients would come back at once and again
    return status, errors.body(status, message, None, why.value), headers


def no_model(name: str) -> Invalid:
    return Invalid(
        f"the model {name[:100]!r} does not exist or you do not have access to it; GET /v1/models lists those there are",
        "model",
        code=Why.NO_MODEL.value,
        status=404,
    )


def no_worker(name: str, *, is_alone: bool = False) -> Invalid:
    """The model exists here, and none of its workers has come yet: to say 404 would make clients give up. `is_alone`: nobody is there
    who would start one."""
    what = ", and this gateway runs without a supervisor that could start one" if is_alone else "; ask again"
    return Invalid(f"no worker of the model {name!r} has come up yet{what}", None, Why.NO_REPLICA.value, 503)


def reads_only(name: str) -> Invalid:
    """The model is one for vectors, or compares texts."""
    return Invalid(
        f"the model {name!r} reads texts and writes none; POST /v1/embeddings, /v1/rerank or /v1/score asks it", "model",
        "unsupported_task",
    )  # fmt: skip


def no_stream() -> Answer:
    """One answer for whatever is wrong with the place that a client wants to go on from: nobody learns what exists."""
    return refusal(
        404,
        "there is no such answer to go on with, or it was forgotten; send the request again",
        code="stream_not_found",
    )


def diverged() -> Answer:
    return refusal(
        409,
        "the answer had to be made again and came out different from what you have; drop that and send the request again",
        code="stream_diverged",
    )
