"""What the first bytes of a content look like, by puremagic's tables."""

from __future__ import annotations

import puremagic

_REGISTERED = {"application/x-gzip": "application/gzip"}  # where the tables have a name of before RFC 6713


def found(head: bytes) -> tuple[str, ...]:
    """The media types that a content that begins with `head` may have, the likeliest first."""
    if not head:
        return ()
    try:
        matches = puremagic.magic_string(head)
    except (puremagic.PureError, ValueError):
        return ()
    return tuple(dict.fromkeys(_REGISTERED.get(one.mime_type, one.mime_type) for one in matches if one.mime_type))
