"""A receipt as JSON: one object a call, however many gateways had a part in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cordee.domain.kept import Receipt
from cordee.wire.shape import encode


def receipt_body(receipts: Sequence[Receipt]) -> bytes:
    """`receipts` of one call, oldest first. How it ended is what the last one says; what it used is the sum."""
    first, last = receipts[0], receipts[-1]
    replicas: list[str] = []
    for receipt in receipts:
        replicas += (replica for replica in receipt.replicas if not replicas or replicas[-1] != replica)
    tokens_in = sum(receipt.tokens_in for receipt in receipts)
    tokens_out = sum(receipt.tokens_out for receipt in receipts)
    body: dict[str, Any] = {
        "id": first.id,
        "object": "call",
        "status": last.end,
        "error": last.why or None,
        "created": int(first.ended - first.total_s),
        "model": last.model,
        "asked": first.asked or last.model,
        "path": first.path,
        "replicas": replicas,
        "attempts": sum(receipt.attempts for receipt in receipts),
        "continued": sum(receipt.continued for receipt in receipts),
        "continuation": next((receipt.continuation for receipt in reversed(receipts) if receipt.continuation), "none"),
        "identical": all(receipt.identical for receipt in receipts),
        "resumed": sum(receipt.resumed for receipt in receipts),
        "cloud": any(receipt.cloud for receipt in receipts),
        "money": sum(receipt.money for receipt in receipts),
        "usage": {
            "prompt_tokens": tokens_in,
            "completion_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
            "prompt_tokens_details": {"cached_tokens": max(receipt.cached for receipt in receipts)},
        },
        "timings": {
            "queue_s": _rounded(first.queue_s),
            "first_token_s": _rounded(first.first_token_s) if first.first_token_s is not None else None,
            "total_s": _rounded(last.ended - first.ended + first.total_s),
        },
    }
    return encode(body)


def running_body(id: str, model: str, path: str, created: int) -> bytes:
    """Of a call that has not ended."""
    return encode({"id": id, "object": "call", "status": "running", "created": created, "model": model, "path": path})


def _rounded(seconds: float) -> float:
    return round(seconds, MICROSECONDS)


MICROSECONDS = 6  # digits
