"""Which addresses a request for a user may go to: those of the public internet, and what the operator has named.

An address inside another one (v4 in v6, the translators' and tunnels' prefixes) counts as the one inside: what is not let through the
front door is not let through a side door. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052; the IPv4 address is the last 32 bits
_COMPATIBLE = IPv6Network("::/96")  # RFC 4291, 2.5.5.1; likewise
# Where an IPv4 address is hidden that a translator near us may unpack by rules of its own, or where nobody public lives.
_NOWHERE = tuple(
    IPv6Network(network)
    for network in ("64:ff9b:1::/48", "2002::/16", "2001::/23", "2001:db8::/32", "fec0::/10", "5f00::/16", "3fff::/20")
)
_V4_NOWHERE = tuple(IPv4Network(network) for network in ("192.88.99.0/24", "192.0.0.0/24"))
_LAST_BITS = 0xFFFFFFFF


def networks(named: Sequence[str]) -> tuple[Network, ...]:
    """Those the operator has named. Raises ValueError for what is none."""
    return tuple(ip_network(one) for one in named)


def is_public(address: Address) -> bool:
    """Whether anybody on the internet is meant by it."""
    if isinstance(address, IPv6Address):
        inside = address.ipv4_mapped
        if inside is None and (address in _NAT64 or address in _COMPATIBLE):
            inside = IPv4Address(int(address) & _LAST_BITS)
        if inside is not None:
            return is_public(inside)
        if address.scope_id is not None or any(address in network for network in _NOWHERE):
            return False
    elif any(address in network for network in _V4_NOWHERE):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def is_named(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether the operator has named it."""
    return any(address in network for network in allowed)


def literal(host: str) -> Address | None:
    """The address that a host in a URL is, if it is one written as addresses are: four decimals, or v6 in brackets."""
    text = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if ":" in text and text is host:
        return None
    try:
        return ip_address(text)
    except ValueError:
        return None
