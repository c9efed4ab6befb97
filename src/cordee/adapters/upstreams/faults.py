"""Decides what a server's refusal means: whose fault it is, and when asking again makes sense.

A client's mistake goes back to the client unchanged. A server that has no room is busy, for as long as it says. A server that
does not accept *our* key or account is at fault itself: the client cannot help it, another server may.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

RETRY_AFTER_S_MAX = 3600.0  # longer advice is not believed: within an hour somebody has looked
BUSY = frozenset({429, 503})
OUR_ACCOUNT = frozenset({401, 402, 403})
LOOP = 508
# Codes that say, under whatever status, that the account behind our key is at fault or has used up its quota.
ACCOUNT_CODES = frozenset({"arrearage", "insufficient_quota", "accessdenied", "invalid_api_key", "access_terminated"})
# Codes of what the client's own input brings about, also in the middle of a stream.
CLIENT_CODES = frozenset(
    {"content_filter", "data_inspection_failed", "datainspectionfailed", "invalid_request_error", "invalid_parameter_error",
     "context_length_exceeded", "invalidparameter"}
)  # fmt: skip


class Error(msgspec.Struct):
    """OpenAI's error object, as others write it too."""

    message: str = ""
    type: str | None = None
    code: str | int | None = None

    @property
    def is_clients(self) -> bool:
        if isinstance(self.code, int):
            return 400 <= self.code < 500 and self.code not in BUSY and self.code not in OUR_ACCOUNT
        return (self.code or "").lower() in CLIENT_CODES or (self.type or "").lower() in CLIENT_CODES

    @property
    def is_our_account(self) -> bool:
        return isinstance(self.code, str) and self.code.lower() in ACCOUNT_CODES


class _Envelope(msgspec.Struct):
    error: Error | str | None = None
    code: str | int | None = None  # of servers that put everything at the top
    message: str = ""


_decode = msgspec.json.Decoder(_Envelope).decode


def error_of(body: bytes) -> Error | None:
    """The error in a JSON object, None where there is none. Raises msgspec.MsgspecError for what is no JSON object."""
    envelope = _decode(body)
    if isinstance(envelope.error, str):
        return Error(envelope.error)
    if envelope.error is None and envelope.message and envelope.code is not None:
        return Error(envelope.message, None, envelope.code)
    return envelope.error


@dataclass(frozen=True, slots=True)
class Passed:
    """The client's fault, or an answer: it goes through as it is."""


@dataclass(frozen=True, slots=True)
class Busy:
    """No room before any work."""

    retry_after_s: float | None


@dataclass(frozen=True, slots=True)
class Fault:
    """The server's own. `ran`: it may have worked before."""

    cause: str
    ran: bool


PASSED = Passed()


def judge(status: int, headers: Sequence[tuple[bytes, bytes]], now: datetime | None = None) -> Passed | Busy | Fault:
    """By the head alone."""
    if status < 400:
        return PASSED
    if status in BUSY:
        return Busy(retry_after(headers, now) or None)  # "at once" is said by servers that are full all the same
    if status in OUR_ACCOUNT:
        return Fault(f"it refused this gateway's own key (status {status})", ran=False)
    if status == LOOP:
        return Fault("the request would have gone in a circle (status 508)", ran=False)
    if status >= 500:
        return Fault(f"it answered with status {status}", ran=True)
    return PASSED


def retry_after(headers: Sequence[tuple[bytes, bytes]], now: datetime | None = None) -> float | None:
    """Retry-After as seconds or as a date (RFC 9110, 10.2.3); None where it is missing or none."""
    for name, value in headers:
        if name == b"retry-after":
            text = value.decode("ascii", "replace").strip()
            if text.replace(".", "", 1).isdigit():
                return min(RETRY_AFTER_S_MAX, float(text))
            try:
                at = parsedate_to_datetime(text)
            except ValueError:
                return None
            aware = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
            return min(RETRY_AFTER_S_MAX, max(0.0, (aware - (now or datetime.now(UTC))).total_seconds()))
    return None
