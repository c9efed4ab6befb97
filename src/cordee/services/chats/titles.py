"""What a conversation is called before anybody says so: the beginning of the first thing its user wrote. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cordee.services.chats.words import text_of

TITLE_CHARACTERS = 80  # of a title that nobody chose
_LOOKED_AT = 4 * TITLE_CHARACTERS  # of the message: a title needs no more of it


def title_of(item: Mapping[str, Any]) -> str:
    """A title from this item; "" where it is not a user's message, or says nothing."""
    if item.get("role") != "user":
        return ""
    return tidy(text_of(item)[:_LOOKED_AT], TITLE_CHARACTERS)


def tidy(text: str, characters: int) -> str:
    """One line of at most so many printable characters, cut between words where there are any."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    if len(line) <= characters:
        return line
    whole, _, _ = line[:characters].rpartition(" ")
    return (whole or line[: characters - 1]) + "…"
