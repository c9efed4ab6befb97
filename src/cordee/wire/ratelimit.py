"""OpenAI's rate-limit headers, which the official clients' users read to slow down in time."""

from __future__ import annotations

import math

MINUTE_S, HOUR_S = 60, 3600


def duration(seconds: float) -> str:
    """As OpenAI writes it: 120ms, 1s, 6m0s, 1h0m0s; rounded up, so that nobody comes back too early."""
    if seconds <= 0:
        return "0s"
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    whole = math.ceil(seconds)
    hours, rest = divmod(whole, HOUR_S)
    minutes, rest = divmod(rest, MINUTE_S)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def lines(unit: str, limit: float, remaining: float, reset_s: float) -> bytes:
    """The three header lines of one limit; `unit` is "requests" or "tokens"."""
    return (
        f"x-ratelimit-limit-{unit}: {int(limit)}\r\n"
        f"x-ratelimit-remaining-{unit}: {max(0, int(remaining))}\r\n"
        f"x-ratelimit-reset-{unit}: {duration(reset_s)}\r\n"
    ).encode()
