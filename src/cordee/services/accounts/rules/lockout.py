"""How long an address is shut after wrong passwords: a few are free, then each one doubles the wait, up to a limit.

A delay rather than a lock for good: otherwise anybody who knows an address could keep its owner out (OWASP, Authentication Cheat
Sheet). Addresses without an account are treated alike, so the wait tells nothing about who has one.
"""

from __future__ import annotations

_DOUBLINGS_MAX = 62  # beyond any limit in seconds, and still a float


def delay_s(failures: int, free: int, first_s: float, max_s: float) -> float:
    """Seconds until the next try after `failures` wrong ones in a row; 0 while some are free."""
    if failures <= free:
        return 0.0
    return min(max_s, first_s * 2.0 ** min(failures - free - 1, _DOUBLINGS_MAX))


def remembered(failures: int, last_at: float, now: float, forgotten_s: float) -> int:
    """How many of the failures still count."""
    return 0 if now - last_at > forgotten_s else failures
