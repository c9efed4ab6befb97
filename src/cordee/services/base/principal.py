"""Who asks a service: the gateway has checked their key or token, and vouches for them in a header that only it can make.

What belongs to whom is decided by the tenant alone: an object of another tenant is one that does not exist.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from cordee.domain.record import record
from cordee.services.base.errors import Problem
from cordee.services.base.ground import Ground
from cordee.wire.vouch import HEADER, TO_SERVICES, Vouched, vouched

SYSTEM = "system"  # the scope of one service that asks another for the installation itself


@record
class Principal:
    """`key`: the id of the API key, or of the user or application whose token it is; `subject`: the user or application behind it,
    "" for a key that belongs to the tenant alone."""

    tenant: str
    key: str
    subject: str
    scopes: frozenset[str]

    def need(self, scope: str) -> None:
        """Raises Problem (403)."""
        if scope not in self.scopes:
            raise Problem(403, f"This needs the scope {scope}, which this key or token does not hold.", code="no_scope")

    @property
    def vouched(self) -> Vouched:
        """As the gateways are to know them."""
        return Vouched(self.tenant, self.key, self.subject, self.scopes)


def _asking(request: Request) -> Principal:
    ground: Ground = request.app.state.ground
    found = vouched(request.headers.get(HEADER, ""), TO_SERVICES, ground.secret, ground.now())
    if found is None:
        raise Problem(401, "Ask a gateway: this service answers to nobody else.", code="invalid_api_key")
    return Principal(found.tenant, found.key, found.subject, found.scopes)


Asking = Annotated[Principal, Depends(_asking)]
