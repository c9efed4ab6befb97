"""What is shown once and stored as its hash: API keys, refresh tokens, codes, the secrets of applications.

All of them are 256 random bits behind a prefix by which a scanner knows a leaked one, so a plain SHA-256 is enough: nobody guesses
them, and looking up by the hash takes as long whatever was presented.
"""

from __future__ import annotations

import hashlib
import secrets

API_KEY = "sk-cordee-"
REFRESH = "rt-cordee-"
CODE = "ac-cordee-"
DEVICE = "dc-cordee-"
CLIENT = "cs-cordee-"
CHARACTERS_MAX = 128  # of anything presented as one of these
HINT_CHARACTERS = 4
_RANDOM_BYTES = 32


def make(prefix: str) -> str:
    return prefix + secrets.token_urlsafe(_RANDOM_BYTES)


def digest(secret: str) -> str:
    """SHA-256 in hexadecimal, as gateways compute it of a presented key."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
