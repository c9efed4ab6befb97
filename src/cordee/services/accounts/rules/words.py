"""What people may be called, and what a password must be."""

from __future__ import annotations

import re
import unicodedata

EMAIL_CHARACTERS_MAX = 254  # RFC 5321
NAME_CHARACTERS_MAX = 128
PASSWORD_CHARACTERS_MAX = 256  # more only makes checking dearer
PASSWORD_DIFFERENT_MIN = 4  # characters; fewer are a key held down
_LOOK_ALIKE = frozenset(
    {"LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU"}
)  # as letters' names begin
_EMAIL = re.compile(r"[^\s@\x00-\x20\x7f\"(),:;<>\[\]\\]{1,64}@[a-z0-9]([a-z0-9.-]{0,188}[a-z0-9])?")


def email_of(typed: str) -> str | None:
    """The address as it is stored and compared: composed, in small letters. None for what is none, or looks like another one."""
    email = unicodedata.normalize("NFC", typed.strip()).lower()
    if len(email) > EMAIL_CHARACTERS_MAX or not email.isprintable() or not _EMAIL.fullmatch(email) or ".." in email:
        return None
    return None if _is_disguised(typed) else email


def _is_disguised(address: str) -> bool:
    """Whether it holds another way to write an ASCII character, which small letters would turn into that one (the Kelvin sign into k),
    or letters of alphabets that look alike, mixed (UTS 39, 5.1)."""
    if any(not c.isascii() and unicodedata.normalize("NFKC", c).lower().isascii() for c in address):
        return True
    alphabets = {unicodedata.name(c, "").partition(" ")[0] for c in address.partition("@")[0] if c.isalpha()}
    return len(alphabets & _LOOK_ALIKE) > 1


def fault_of_password(password: str, email: str, length_min: int) -> str | None:
    """Why this password is not taken; None if it is. Length is what counts (NIST SP 800-63B, 3.1.1)."""
    if not length_min <= len(password) <= PASSWORD_CHARACTERS_MAX:
        return f"a password has {length_min} to {PASSWORD_CHARACTERS_MAX} characters"
    if len(set(password)) < PASSWORD_DIFFERENT_MIN:
        return f"a password has at least {PASSWORD_DIFFERENT_MIN} different characters"
    if password.lower() == email or password.lower() == email.partition("@")[0]:
        return "a password must not be the address"
    return None
