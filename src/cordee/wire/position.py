"""Where in a stream a client is: the last part of an event's id, which it sends back to get the rest.

An id is `<stream>.<index>.<hash>`. The index has one part for each choice that was opened, joined by `-`: how many of its tokens
went into what was sent, then `r` when the text that was held back to the last went out too, or `e` when its end did; `u` after
the last part when the usage was sent. `12-10e` is twelve tokens of choice 0, and choice 1 complete after ten. The hash rolls
over the token ids (FNV-1a, 64 bits, a token at a time), so that a generation that was made again is known to be the same one
before any of it is joined to what the client has. Fowler, Noll, Vo: http://www.isthe.com/chongo/tech/comp/fnv/
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cordee.domain.record import record

START = 0xCBF29CE484222325
PRIME = 0x100000001B3
MASK = (1 << 64) - 1
OPEN, RESTED, ENDED = "", "r", "e"  # of a choice: more comes; held-back text is out; its end is out
EVENT_ID_BYTES_MAX = 4096  # 128 choices of ten million tokens each are less
_EVENT_ID = re.compile(
    r"(?P<stream>[0-9a-f]{16,128})\.(?P<index>[0-9]{1,8}[re]?(?:-[0-9]{1,8}[re]?){0,127}u?)\.(?P<hash>[0-9a-f]{16})"
)


@record
class Position:
    """`counts`, `states`: of the choices that were opened. `has_usage`: it was sent. `hash`: over all of them."""

    counts: tuple[int, ...]
    states: tuple[str, ...]
    has_usage: bool
    hash: int


def rolled(hash: int, token: int) -> int:
    """The hash with one more token."""
    return ((hash ^ token) * PRIME) & MASK


def together(hashes: Sequence[int]) -> int:
    """One hash of those of all opened choices."""
    if len(hashes) == 1:
        return hashes[0]
    whole = START
    for hash in hashes:
        whole = ((whole ^ hash) * PRIME) & MASK
    return whole


def written(counts: Sequence[int], states: Sequence[str], hashes: Sequence[int], *, has_usage: bool = False) -> str:
    """`<index>.<hash>`."""
    if len(counts) == 1:
        return f"{counts[0]}{states[0]}{'u' if has_usage else ''}.{hashes[0]:016x}"
    index = "-".join(f"{count}{state}" for count, state in zip(counts, states, strict=True))
    return f"{index}{'u' if has_usage else ''}.{together(hashes):016x}"


def read(event_id: str) -> tuple[str, Position]:
    """The stream and the position that an event's id names. Raises ValueError for what is none."""
    found = _EVENT_ID.fullmatch(event_id) if len(event_id) <= EVENT_ID_BYTES_MAX else None
    if found is None:
        raise ValueError("not the id of an event")
    index = found["index"]
    parts = index.removesuffix("u").split("-")
    states = tuple(part[-1] if part[-1] in "re" else OPEN for part in parts)
    counts = tuple(int(part.rstrip("re")) for part in parts)
    return found["stream"], Position(counts, states, index.endswith("u"), int(found["hash"], 16))
