"""Where a webhook goes: a URL is read once, by one strict grammar, and what is connected to is made of its parts.

What two readers of a URL could read differently is refused: user names, backslashes, fragments, anything that is not plain ASCII, and
numbers that some resolvers take for addresses (0x7f.1, 2130706433). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cordee.domain.record import record
from cordee.services.base.errors import Problem
from cordee.services.webhooks.rules.addresses import Address, Network, is_named, is_public, literal

URL_CHARACTERS_MAX = 2048
PLAIN, SECURE = "http", "https"
_USUAL = {PLAIN: 80, SECURE: 443}
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = rf"({_LABEL}(\.{_LABEL})*|\[[0-9a-f:.]+\])"
_URL = re.compile(
    rf"(?P<scheme>https?)://(?P<host>{_HOST})(:(?P<port>[0-9]{{1,5}}))?"
    r"(?P<target>(/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?(\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?)",
    re.IGNORECASE,
)
_LAST_LABEL_NUMBER = re.compile(r"(^|\.)(0x[0-9a-f]*|[0-9]+)$")  # WHATWG URL: "ends in a number"
_HOST_CHARACTERS_MAX = 253
_PORT_MAX = 65_535


@record
class Target:
    """A URL's parts. `host`: a name or an address, in small letters, v6 in brackets; `target`: path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """For the Host header."""
        return self.host if self.port == _USUAL[self.scheme] else f"{self.host}:{self.port}"


@record
class Reach:
    """Where webhooks may go: `ports` of public addresses; any port, and http, of `allowed` networks."""

    ports: frozenset[int]
    allowed: tuple[Network, ...]


class ForbiddenError(Exception):
    """A webhook may not go there; the message says why, and names no address that the user did not."""


def target_of(url: str) -> Target:
    """Raises ForbiddenError."""
    found = _URL.fullmatch(url) if len(url) <= URL_CHARACTERS_MAX else None
    if found is None:
        raise ForbiddenError("it must be https://HOST/PATH in ASCII, without user, password and fragment")
    scheme, host = found["scheme"].lower(), found["host"].lower()
    port = int(found["port"]) if found["port"] else _USUAL[scheme]
    if not 0 < port <= _PORT_MAX or len(host) > _HOST_CHARACTERS_MAX:
        raise ForbiddenError("its host or port is none")
    if literal(host) is None and (host.startswith("[") or _LAST_LABEL_NUMBER.search(host)):
        raise ForbiddenError("its host is neither a name nor an address written as addresses are")
    target = found["target"] or "/"
    return Target(scheme, host, port, target if target.startswith("/") else f"/{target}")


def check(target: Target, addresses: Sequence[Address], reach: Reach) -> None:
    """Whether a webhook may go to all of `addresses`, one of which is then connected to. Raises ForbiddenError."""
    if not addresses:
        raise ForbiddenError("its host has no address")
    for address in addresses:
        if is_named(address, reach.allowed):
            continue
        if not is_public(address):
            raise ForbiddenError("its host leads to an address that is not public")
        if target.scheme != SECURE:
            raise ForbiddenError("it must be https")
        if target.port not in reach.ports:
            raise ForbiddenError(f"its port must be one of {', '.join(map(str, sorted(reach.ports)))}")


def accepted(url: str, reach: Reach) -> Target:
    """What can be said of a URL before its host is looked up. Raises Problem (400)."""
    try:
        target = target_of(url)
        address = literal(target.host)
        if address is not None:
            check(target, (address,), reach)
        elif not reach.allowed and target.scheme != SECURE:
            raise ForbiddenError("it must be https")
        elif not reach.allowed and target.port not in reach.ports:
            raise ForbiddenError(f"its port must be one of {', '.join(map(str, sorted(reach.ports)))}")
    except ForbiddenError as error:
        raise Problem(400, f"url: {error}.", "url", "invalid_url") from error
    return target
