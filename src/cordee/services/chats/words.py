"""Which words a text is found by: the same on every database, because both are given words that are already cut and folded here.

Letters without accents and in one case; signs between words do not count; scripts written without spaces are cut into their letters, so
that a run of them is found as a phrase. Pure.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from cordee.services.chats.log import Owner

UNITS_MAX = 16  # words and phrases of one question
_WORD_CHARACTERS_MAX = 256  # PostgreSQL takes no word of 2 KiB
_UNIT = re.compile(r'"([^"]*)"|(\S+)')
_WORD = re.compile(r"[^\W_]+")
# Han, Hiragana, Katakana, Thai, Lao, Khmer, Burmese: scripts that put no space between words.
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])"
)
_OWNER_DIGITS = 24


def folded(text: str) -> str:
    """The words of the text, one space between two."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    bare = "".join(letter for letter in plain if not unicodedata.combining(letter))
    words = _WORD.findall(_UNSPACED.sub(r" \1 ", bare))
    return " ".join(word[:_WORD_CHARACTERS_MAX] for word in words)


def mark_of(owner: Owner) -> str:
    """A word that stands in all texts of one owner and by which the index leads to them at once, however many others hold the same
    words. It finds; it does not guard: every query names the owner as well."""
    return "o" + hashlib.sha256(f"{owner.tenant}\0{owner.subject}".encode()).hexdigest()[:_OWNER_DIGITS]


def units(question: str) -> list[str]:
    """The words and "phrases" that a text must all hold, folded; none when the question holds no letter and no digit."""
    found = (folded(phrase or word) for phrase, word in _UNIT.findall(question))
    return [unit for unit in dict.fromkeys(found) if unit]


def text_of(item: Mapping[str, Any]) -> str:
    """What a message says, its parts on lines of their own; "" for items that are no messages."""
    if item.get("type") != "message":
        return ""
    content = item.get("content") or ()
    if isinstance(content, str):
        return content
    return "\n".join(said for part in content if (said := part.get("text") or part.get("refusal")))


def snippet(text: str, question: str, characters: int) -> str:
    """The piece of `text` around the first place where a word of the question stands as it was written, else its beginning."""
    lowered = text.casefold()
    places = [at for word in question.casefold().replace('"', " ").split() if (at := lowered.find(word)) >= 0]
    middle = min(places, default=0)
    start = max(0, min(middle - characters // 4, len(text) - characters))
    piece = " ".join(text[start : start + characters].split())
    return ("…" if start else "") + piece + ("…" if start + characters < len(text) else "")
