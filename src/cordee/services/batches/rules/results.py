"""Lines of output and error files, as OpenAI writes them. The same line is always written with the same bytes."""

from __future__ import annotations

import msgspec

from cordee.services.batches.records import Ended, Status


class _Response(msgspec.Struct):
    status_code: int
    request_id: str
    body: msgspec.Raw


class _Error(msgspec.Struct):
    code: str
    message: str


class _Written(msgspec.Struct):
    id: str
    custom_id: str
    response: _Response | None
    error: _Error | None


_NUMBER_DIGITS = 8
_NOTHING = msgspec.Raw(b"null")
_encode = msgspec.json.Encoder().encode
_WHY = {
    Status.EXPIRED: _Error("batch_expired", "This request could not be executed before the completion window expired."),
    Status.CANCELLED: _Error("batch_cancelled", "This request was not executed, because the batch was cancelled."),
}
_UNREADABLE = _Error("invalid_response", "The answer to this request could not be read.")


def written(batch_id: str, end: Status, line: Ended) -> bytes:
    """One line with its end. `end`: how the batch ends, which says why a line has no answer."""
    id = f"batch_req_{batch_id.removeprefix('batch_')}{line.number:0{_NUMBER_DIGITS}d}"
    if line.status == 0:
        made = _Written(id, line.custom_id, None, _WHY[end])
    else:
        response = _Response(line.status, line.request_id, _one_line(line.body))
        made = _Written(id, line.custom_id, response, None if line.body else _UNREADABLE)
    return _encode(made) + b"\n"


def _one_line(body: bytes) -> msgspec.Raw:
    """JSON as it came, but for line ends, which may only stand between its words."""
    if not body:
        return _NOTHING
    return msgspec.Raw(body.replace(b"\r", b" ").replace(b"\n", b" ").strip())
