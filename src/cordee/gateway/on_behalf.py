"""A service asks on behalf of somebody who asked it before, maybe long ago: who that is as of now decides what the gateway does.

The seal says only that this installation asks and for whom. What the caller may and may use is looked up by its id, like a browser
session's: a key that is gone asks no more, neither by itself nor by a service. It may no more than it might when it asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from cordee.domain.caller import Caller
from cordee.domain.outcome import Why
from cordee.gateway.replies import refusal
from cordee.http.exchange import Answer
from cordee.http.request import Request
from cordee.wire.vouch import HEADER, TO_GATEWAYS, Vouched, vouched

NAME = HEADER.lower().encode()
SYSTEM = "system"  # the scope in which the installation asks for itself
NOT_OURS = f"the header {HEADER} is for services of this installation; send an API key"
GONE = "the key or user on whose behalf this is asked is no longer there"
BOTH = f"send an API key or {HEADER}, not both"


class Holders(Protocol):
    """Who there is now: ports.Directory has it."""

    def holder(self, key_id: str) -> tuple[Caller, str] | None: ...


class OnBehalf:
    """`secret`: the installation's. `wall`: seconds of the epoch."""

    def __init__(self, holders: Holders, secret: bytes, wall: Callable[[], float] = time.time) -> None:
        self._holders = holders
        self._secret = secret
        self._wall = wall

    def caller(self, request: Request) -> Caller | Answer:
        """For whom a request with the header is made; 401 where nobody of ours says so, or for nobody there is any more."""
        if b"authorization" in request.headers or b"x-api-key" in request.headers or b"api-key" in request.headers:
            return refusal(400, BOTH, HEADER)
        shown = request.headers[NAME].decode("latin-1")
        found = vouched(shown, TO_GATEWAYS, self._secret, self._wall())
        if found is None:
            return refusal(401, NOT_OURS, HEADER, Why.BAD_KEY.value)
        if SYSTEM in found.scopes:
            return _of_system(found)
        holder = self._holders.holder(found.key)
        if holder is None or holder[0].tenant != found.tenant:
            return refusal(401, GONE, HEADER, Why.REVOKED.value)
        caller = holder[0]
        if caller.scopes <= found.scopes:
            return caller
        # Asked with a token that may do less than its user.
        return replace(caller, scopes=caller.scopes & found.scopes)


def _of_system(found: Vouched) -> Caller:
    """The installation itself, for a tenant: it holds what it says and no more."""
    return Caller(found.key, found.tenant, found.scopes, subject=found.subject, grant=SYSTEM)
