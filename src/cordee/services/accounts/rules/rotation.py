"""Which key signs, which are published, when the next one is made and when an old one goes.

A key is published before it signs, so that whoever caches the set knows it by then; it stays published until the last token that it
signed has expired and caches have been renewed once more.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from cordee.domain.record import record


@record
class Dates:
    """A key and the second from which on it signs."""

    kid: str
    signs_from: float


@record
class Plan:
    """`signer`: None when a first key must be made. `next_signs_from`: make a key that signs from then on; None: none is due."""

    signer: str | None
    next_signs_from: float | None
    gone: tuple[str, ...]


def plan(keys: Sequence[Dates], now: float, signs_s: float, published_s: float, token_s: float) -> Plan:
    """What to do with the keys there are, `now`. All in seconds."""
    if not keys:
        return Plan(None, now, ())
    ordered = sorted(keys, key=lambda key: (key.signs_from, key.kid))
    began = [key for key in ordered if key.signs_from <= now]
    signer = began[-1] if began else ordered[0]
    newest = ordered[-1]
    is_due = now >= newest.signs_from + signs_s - published_s
    gone = tuple(
        key.kid for key, successor in itertools.pairwise(ordered) if successor.signs_from + token_s + published_s < now
    )
    return Plan(signer.kid, now + published_s if is_due else None, gone)
