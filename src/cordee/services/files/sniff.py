"""What the first bytes of a content look like, by puremagic's tables."""

from __future__ import annotations

import puremagic


def found(head: bytes) -> tuple[str, ...]:
    """The media types that a content that begins with `head` may have, the likeliest first."""
    if not head:
        return ()
    try:
        matches = puremagic.magic_string(head)
    except (puremagic.PureError, ValueError):
        return ()
    return tuple(dict.fromkeys(match.mime_type for match in matches if match.mime_type))
