"""What a request says about being kept: its Idempotency-Key, X-Cordee-Resumable, and the digest that tells a repeat from another
request under the same key."""

from __future__ import annotations

from hashlib import sha256

from cordee.domain.record import record
from cordee.http.request import Request
from cordee.wire.errors import Invalid

KEY, RESUMABLE = b"idempotency-key", b"x-cordee-resumable"
KEY_CHARS_MAX = 255
VISIBLE = frozenset(range(0x21, 0x7F))  # of ASCII; a space is one of the characters that proxies change
ON, OFF = frozenset({b"1", b"true"}), frozenset({b"0", b"false"})
REPLAYED = b"idempotency-replayed: true\r\n"
KEPT = b"x-cordee-resumable: true\r\n"
NOT_KEPT = b"x-cordee-resumable: false\r\n"
LOCAL = b"x-cordee-idempotency: local\r\n"


@record
class Wish:
    """`key` is "" where there is none. `is_explicit`: the client asked for it, and hears when it cannot be had."""

    key: str
    is_explicit: bool


def wish_of(request: Request, *, by_default: bool) -> Wish | None:
    """None: this request is like any other. Raises Invalid."""
    headers = request.headers
    key, resumable = headers.get(KEY), headers.get(RESUMABLE)
    if key is None and resumable is None:
        return Wish("", is_explicit=False) if by_default else None
    if resumable is not None and resumable not in ON and resumable not in OFF:
        raise Invalid("the header X-Cordee-Resumable is 1 or 0", "X-Cordee-Resumable")
    if key is not None:
        return Wish(checked(key), is_explicit=resumable in ON)
    return Wish("", is_explicit=True) if resumable in ON else None


def checked(key: bytes) -> str:
    """Raises Invalid for a key that is none."""
    if not key:
        raise Invalid(
            "the header Idempotency-Key is empty; send up to 255 visible ASCII characters, or leave it out",
            "Idempotency-Key",
        )
    if len(key) > KEY_CHARS_MAX:
        raise Invalid(
            f"the header Idempotency-Key has {len(key)} characters; {KEY_CHARS_MAX} are allowed", "Idempotency-Key"
        )
    if not VISIBLE.issuperset(key):
        raise Invalid(
            "the header Idempotency-Key holds something else than visible ASCII characters", "Idempotency-Key"
        )
    return key.decode("ascii")


def digest(path: bytes, body: bytes) -> str:
    """Stands for a request: equal digests, equal requests."""
    told = sha256(b"%d " % len(path))
    told.update(path)
    told.update(body)
    return told.hexdigest()


def conflict() -> Invalid:
    return Invalid(
        "this Idempotency-Key was used for another request; send a new key with a new request", "Idempotency-Key",
        code="idempotency_key_reused", status=409,
    )  # fmt: skip


def in_progress(wait_s: float) -> Invalid:
    return Invalid(
        f"the first request with this Idempotency-Key still runs after {wait_s:g} s; ask again later", "Idempotency-Key",
        code="idempotency_in_progress", status=409,
    )  # fmt: skip


def too_many() -> Invalid:
    return Invalid(
        "too many idempotency keys of this tenant are remembered at a time; wait, or send the request without one",
        "Idempotency-Key", code="idempotency_keys_exhausted", status=429,
    )  # fmt: skip
