"""The checks of OAuth 2.1: where an answer may be sent, and whether a code comes back from whom it was made for."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from urllib.parse import urlencode, urlsplit

CHALLENGE_PATTERN = r"^[A-Za-z0-9_-]{43}$"  # SHA-256 in base64url
VERIFIER_PATTERN = r"^[A-Za-z0-9._~-]{43,128}$"
REDIRECT_CHARACTERS_MAX = 512
USER_CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # no vowels, so no words; nothing that looks like a digit (RFC 8628, 6.1)
USER_CODE_LENGTH = 8
_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")  # it stands in a header of the page that asks, too
_VISIBLE = re.compile(r"[\x21-\x7e]+")


def fault_of_redirect(uri: str) -> str | None:
    """Why `uri` cannot be registered; None if it can: https, or http on a loopback address, without user, fragment or `..`."""
    if len(uri) > REDIRECT_CHARACTERS_MAX or not _VISIBLE.fullmatch(uri) or "\\" in uri or "*" in uri:
        return f"it must be up to {REDIRECT_CHARACTERS_MAX} visible ASCII characters without \\ and *"
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        return "it is not a URL"
    if not parts.hostname or not _HOST.fullmatch(parts.hostname) or "@" in parts.netloc or port == 0:
        return "it must name a host, and no user"
    if "#" in uri or ".." in parts.path.split("/"):
        return "it must have no fragment and no .. in its path"
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return None
    return "it must be https, or http on 127.0.0.1 or [::1]"


def is_redirect_of(asked: str, registered: tuple[str, ...]) -> bool:
    """Exactly one of those registered; on a loopback address any port, because a program takes what is free (RFC 8252, 7.3)."""
    return any(asked == one or _without_port(asked) == _without_port(one) is not None for one in registered)


def with_parameters(uri: str, parameters: dict[str, str]) -> str:
    """`uri` with parameters added to its query."""
    return f"{uri}{'&' if urlsplit(uri).query else '?'}{urlencode(parameters)}"


def is_proof(verifier: str, challenge: str) -> bool:
    """PKCE, S256 (RFC 7636)."""
    if not re.fullmatch(VERIFIER_PATTERN, verifier):
        return False
    digest = hashlib.sha256(verifier.encode()).digest()
    return hmac.compare_digest(base64.urlsafe_b64encode(digest).rstrip(b"=").decode(), challenge)


def user_code(numbers: tuple[int, ...]) -> str:
    """What a person types: eight letters of `numbers`, each from 0 to 19."""
    letters = "".join(USER_CODE_LETTERS[number] for number in numbers)
    return f"{letters[:4]}-{letters[4:]}"


def read_user_code(typed: str) -> str | None:
    """The code that was meant, however it was typed; None for none."""
    letters = "".join(letter for letter in typed.upper() if letter not in "- ")
    if len(letters) != USER_CODE_LENGTH or not set(letters) <= set(USER_CODE_LETTERS):
        return None
    return f"{letters[:4]}-{letters[4:]}"


def _without_port(uri: str) -> tuple[str, str, str] | None:
    """What is compared of an http URL on a loopback address; None for others."""
    if fault_of_redirect(uri):
        return None
    parts = urlsplit(uri)
    if parts.scheme != "http" or parts.hostname is None:
        return None
    return parts.hostname, parts.path, parts.query
