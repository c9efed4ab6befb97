"""What an answer of the gateways means for a line: it is done, it has failed, or it is to be asked again."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from cordee.domain.record import record
from cordee.services.base.door import Whole
from cordee.services.batches.records import Fate, Result, Usage

_BUSY = frozenset({429, 503, 529})  # no room, or over a limit: not the line's fault, and never counted as a try
_UNSURE = frozenset({408, 425, 500, 502, 504})
_CONFLICT = 409
_IN_PROGRESS = "idempotency_in_progress"  # the first request under this key still runs
_TOKENS_MAX = 1 << 53


@record
class Again:
    """Ask once more: `after_s` where the gateways said it; `is_busy`: everybody has to wait, not this line alone."""

    after_s: float | None
    is_busy: bool


class _Said(msgspec.Struct):
    usage: Any = None
    error: Any = None


_DECODER = msgspec.json.Decoder(_Said)


def verdict(number: int, answer: Whole, tries: int, tries_max: int) -> Result | Again:
    """`tries`: how often this line has failed before."""
    status = answer.status
    said = _read(answer.body)
    if status in _BUSY:
        return Again(_after_s(answer.headers.get("retry-after")), True)
    if status == _CONFLICT and said is not None and _code(said.error) == _IN_PROGRESS:
        return Again(_after_s(answer.headers.get("retry-after")), True)
    is_served = 200 <= status < 300 and said is not None
    if not is_served and (status in _UNSURE or 200 <= status < 300) and tries + 1 < tries_max:
        return Again(None, False)
    return Result(
        number,
        Fate.SERVED if is_served else Fate.FAILED,
        status,
        answer.headers.get("x-request-id", ""),
        answer.body if said is not None else b"",
        usage_of(said.usage) if said is not None else Usage(),
    )


def usage_of(found: Any) -> Usage:
    """Tokens, from either of the two ways in which OpenAI's endpoints count them."""
    usage = found if isinstance(found, dict) else {}
    given = _first(usage, "prompt_tokens_details", "input_tokens_details")
    made = _first(usage, "completion_tokens_details", "output_tokens_details")
    return Usage(
        _count(_first(usage, "prompt_tokens", "input_tokens")),
        _count(given.get("cached_tokens") if isinstance(given, dict) else 0),
        _count(_first(usage, "completion_tokens", "output_tokens")),
        _count(made.get("reasoning_tokens") if isinstance(made, dict) else 0),
    )


def _read(body: bytes) -> _Said | None:
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _code(error: Any) -> Any:
    return error.get("code") if isinstance(error, dict) else None


def _first(usage: dict[str, Any], *names: str) -> Any:
    return next((usage[name] for name in names if usage.get(name) is not None), None)


def _count(found: Any) -> int:
    return found if isinstance(found, int) and 0 <= found <= _TOKENS_MAX else 0


def _after_s(said: str | None) -> float | None:
    try:
        wait_s = float(said or "")
    except ValueError:
        return None
    return wait_s if math.isfinite(wait_s) and wait_s >= 0 else None
