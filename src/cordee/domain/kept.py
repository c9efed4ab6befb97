"""What is remembered of a call so that it can go on, or be answered again, without the gateway that took it."""

from __future__ import annotations

import sys
from array import array

from cordee.domain.record import record


@record
class KeptCall:
    """A call as it was stored before its first byte left.

    `body` and `path` are the request; `digest` stands for both. `seed` is the one its sampling began with, also where the client
    gave none. `created`, `fingerprint`: as its envelope says them, in Unix seconds. `owner` names the life of the gateway that
    took it. `forwarded`: another server answers it, in bytes.
    """

    id: str
    tenant: str
    key_id: str
    path: str
    digest: str
    body: bytes
    stream: bool
    seed: int
    created: int
    model: str
    fingerprint: str
    owner: str
    forwarded: bool = False


@record
class KeptTokens:
    """A complete answer of our own workers: for each choice its token ids as little-endian u32, and its `Finish` as a number."""

    outputs: tuple[bytes, ...]
    finishes: tuple[int, ...]


@record
class KeptBytes:
    """A complete answer of another server. `headers` are lines, each ending in CRLF."""

    status: int
    headers: bytes
    body: bytes
    stream: bool


@record
class Found:
    """A kept call and how far it has come. `replica` is where it was last seen to be answered, "" where nobody said. `charged`:
    tokens that were accounted for, None while nobody has. `is_owned`: the gateway that took it lives. `accountant`: the life of the
    gateway that is to account for it, "" where the last one has done so; `is_accounted`: that one lives."""

    call: KeptCall
    replica: str = ""
    charged: int | None = None
    answer: KeptTokens | KeptBytes | None = None
    is_owned: bool = False
    accountant: str = ""
    is_accounted: bool = False


@record
class Fresh:
    """Nobody used this key before: it stands for this call now."""


@record
class Same:
    """The key stands for this call, and it was the same request."""

    call_id: str


@record
class Conflict:
    """The key stands for another request."""


@record
class Full:
    """This tenant has as many keys as it may have."""


Reservation = Fresh | Same | Conflict | Full


@record
class Receipt:
    """How one call ended, as its caller may read it. Times in seconds; `ended` in Unix seconds. See domain.outcome.Outcome."""

    id: str
    tenant: str
    ended: float
    end: str
    model: str
    why: str = ""
    asked: str = ""
    path: str = ""
    replicas: tuple[str, ...] = ()
    attempts: int = 0
    continued: int = 0
    continuation: str = ""
    identical: bool = True
    resumed: bool = False
    cloud: bool = False
    money: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    cached: int = 0
    queue_s: float = 0.0
    first_token_s: float | None = None
    total_s: float = 0.0


def packed(ids: array[int]) -> bytes:
    """Token ids as little-endian u32."""
    if sys.byteorder != "little":
        ids = array("I", ids)
        ids.byteswap()
    return ids.tobytes()


def unpacked(data: bytes) -> array[int]:
    """The ids again. Raises ValueError for what was never packed."""
    ids = array("I")
    ids.frombytes(data)
    if sys.byteorder != "little":
        ids.byteswap()
    return ids
