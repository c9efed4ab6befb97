"""Which bytes of a content are asked for (RFC 9110, section 14): one range, or all."""

from __future__ import annotations

import re

from cordee.domain.record import record

_ONE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


@record
class Span:
    """Bytes `start` up to but without `stop`."""

    start: int
    stop: int


def asked(header: str | None, size: int) -> Span | None:
    """The range of the header `Range` within `size` bytes. None: all of it, also for what is no range of bytes or several at once,
    which a server may ignore. Raises ValueError for a range that holds no byte of the content."""
    found = None if header is None else _ONE.fullmatch(header.strip().lower())
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):
            return None  # not valid, so as if it were not there
    if start >= stop:
        raise ValueError(f"there is no such range in {size} bytes")
    return Span(start, stop)


def matches(header: str | None, tag: str) -> bool:
    """Whether the header `If-None-Match` names the content whose strong tag (with its quotes) is `tag`."""
    if header is None:
        return False
    return header.strip() == "*" or tag in (one.strip().removeprefix("W/") for one in header.split(","))
