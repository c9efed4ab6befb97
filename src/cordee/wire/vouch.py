"""One process of an installation tells another who asks: a header that names the caller and that only the installation can have made.

Gateways vouch to services for the caller whose key or token they have checked; services vouch to gateways for the caller for whom
they ask, who may have asked long ago. HMAC-SHA256 over everything, with the installation's secret; each direction has a word of
its own under the seal, so that neither can be turned round; good for seconds only. Pure: `now` is an argument.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

import msgspec

from cordee.domain.record import record

HEADER = "X-Cordee-Caller"
TO_SERVICES, TO_GATEWAYS = "services", "gateways"
LIFE_S = 60.0  # how long one is good: clocks of hosts may differ, requests may wait
CHARACTERS_MAX = 4096
_VERSION = "v1"


@record
class Vouched:
    """Who asks. `key` is the id of the API key, or of the user or application whose token it is; `subject` is the user or application
    behind it, "" for a key that belongs to a tenant alone; `scopes` are those that hold now."""

    tenant: str
    key: str
    subject: str
    scopes: frozenset[str]


class _Sealed(msgspec.Struct, array_like=True):
    aim: str
    until_s: float
    tenant: str
    key: str
    subject: str
    scopes: list[str]


_DECODER = msgspec.json.Decoder(_Sealed)


def vouch(caller: Vouched, aim: str, secret: bytes, now: float) -> str:
    """The value of the header. `aim`: TO_SERVICES or TO_GATEWAYS; `now`: seconds of the epoch."""
    sealed = _Sealed(aim, now + LIFE_S, caller.tenant, caller.key, caller.subject, sorted(caller.scopes))
    content = _text(msgspec.json.encode(sealed))
    return f"{_VERSION}.{content}.{_text(_seal(content, secret))}"


def vouched(value: str, aim: str, secret: bytes, now: float) -> Vouched | None:
    """Who is vouched for; None for what nobody of this installation has said, or not lately, or not to us."""
    version, _, rest = value.partition(".")
    content, _, shown = rest.partition(".")
    if len(value) > CHARACTERS_MAX or version != _VERSION or not value.isascii():
        return None
    try:
        if not hmac.compare_digest(_bytes(shown), _seal(content, secret)):
            return None
        said = _DECODER.decode(_bytes(content))
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return None
    if said.aim != aim or not now < said.until_s <= now + 2 * LIFE_S:
        return None
    return Vouched(said.tenant, said.key, said.subject, frozenset(said.scopes))


def _seal(content: str, secret: bytes) -> bytes:
    return hmac.digest(secret, f"cordee caller {_VERSION}.{content}".encode(), hashlib.sha256)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
