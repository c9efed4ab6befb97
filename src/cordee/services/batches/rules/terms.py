"""What may be said of a batch, and how long its files may be kept: OpenAI's limits."""

from __future__ import annotations

METADATA_MAX = 16  # entries
METADATA_KEY_CHARACTERS_MAX, METADATA_VALUE_CHARACTERS_MAX = 64, 512
KEPT_S_MIN, KEPT_S_MAX = 3600, 2_592_000  # an hour to thirty days


def without_nul(text: str) -> str:
    """Raises ValueError for what not every database can store: NUL, and halves of surrogate pairs."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("it must not hold NUL or lone surrogates")
    return text
