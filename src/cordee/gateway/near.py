"""What some strategies want to know about a call: where its caller is, and how its prompt begins. Asked only where it matters."""

from __future__ import annotations

from array import array
from hashlib import blake2b

from cordee.domain.call import BYTES_PER_TOKEN
from cordee.domain.caller import Caller
from cordee.http.request import Request
from cordee.wire.errors import Invalid

REGION = b"x-cordee-region"
REGION_BYTES_MAX = 63


def region(request: Request, caller: Caller) -> str:
    """The request's X-Cordee-Region, else that of the key; "" where neither says. Raises Invalid."""
    value = request.headers.get(REGION)
    if value is None:
        return caller.region
    if not 1 <= len(value) <= REGION_BYTES_MAX or not value.replace(b"-", b"").isalnum():
        raise Invalid(
            f"the header X-Cordee-Region is a name of letters, digits and -, up to {REGION_BYTES_MAX} of them",
            "X-Cordee-Region",
        )
    return value.decode().lower()


def of_prompt(prompt: array[int], tokens: int) -> int:
    """Equal for prompts whose first tokens are equal; never 0."""
    return _hash(prompt[:tokens].tobytes())


def of_body(body: bytes, tokens: int) -> int:
    """The same for a request that is forwarded as it came: its first bytes stand for the prompt's, so clients that write the
    parameters of their requests in one order are told apart by their messages."""
    start = body.find(b'"messages"')
    start = start if start >= 0 else max(0, body.find(b'"prompt"'))
    return _hash(body[start : start + tokens * BYTES_PER_TOKEN])


def _hash(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest()) | 1
