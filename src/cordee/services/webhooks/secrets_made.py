"""The secrets that endpoints check signatures with: made here, shown once, sealed in the database, and what is signed with them.

Standard Webhooks: HMAC-SHA256 over id, time and body. While an old secret still holds, both sign.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook

from cordee.services.base.seal import Seal

PREFIX = "whsec_"
KEY_BYTES = 32
_HINT_CHARACTERS = 4
_PURPOSE = b"cordee webhooks: what endpoints' secrets are sealed with"


def seal_of(installation: bytes) -> Seal:
    """A key of its own, made of the installation's secret (RFC 5869's idea: one secret, a purpose, a key)."""
    return Seal(hmac.digest(installation, _PURPOSE, hashlib.sha256))


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def hint_of(secret: str) -> str:
    """By which people know it."""
    return f"{PREFIX}…{secret[-_HINT_CHARACTERS:]}"


def headers(held: Sequence[str], id: str, now: float, body: str) -> dict[str, str]:
    """What a receiver checks. `held`: the secrets that hold now, the newest first."""
    at = datetime.fromtimestamp(int(now), UTC)
    signatures = " ".join(Webhook(secret).sign(id, at, body) for secret in held)
    return {"webhook-id": id, "webhook-timestamp": str(int(now)), "webhook-signature": signatures}
