"""How many connections may be open, in all and of one client address. Decides only; whoever is turned away is told elsewhere."""

from __future__ import annotations

from collections.abc import Sized

from cordee.http.request import Limits, Rejection


class Door:
    """Counts who is in by address, where `limits` bounds that."""

    def __init__(self, inside: Sized, limits: Limits) -> None:
        """`inside`: the connections that are open."""
        self._inside = inside
        self.limits = limits
        self.by_address: dict[str, int] = {}

    def turned_away(self) -> Rejection | None:
        """Why no connection can be had at the moment, whoever asks."""
        if len(self._inside) >= self.limits.connections_max:
            return Rejection(
                503, f"this gateway has {self.limits.connections_max} connections, as many as it may; try again"
            )
        return None

    def count(self, peername: tuple[object, ...] | str | None) -> tuple[str, Rejection | None]:
        """One more connection of a client's address, or why not. What has no address is not counted."""
        if not isinstance(peername, tuple):
            return "", None
        address, most = str(peername[0]), self.limits.connections_per_address_max
        have = self.by_address.get(address, 0)
        if have >= most:
            return "", Rejection(
                429,
                f"your address has {have} connections to this gateway, as many as one may; use those, or close some",
            )
        self.by_address[address] = have + 1
        return address, None

    def uncount(self, address: str) -> None:
        left = self.by_address[address] - 1
        if left:
            self.by_address[address] = left
        else:
            del self.by_address[address]
