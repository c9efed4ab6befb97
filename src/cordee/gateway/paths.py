"""Which path and method lead to what. Rooms of the gateway add their paths here; the front door only looks them up."""

from __future__ import annotations

from collections.abc import Callable

from cordee.domain.caller import Caller
from cordee.http.exchange import Exchange
from cordee.http.request import Request
from cordee.wire.errors import Invalid

Act = Callable[[Request, Exchange, Caller | None], None]  # the caller is None only on open paths
SHOWN_BYTES = 100  # of an unknown path in an error


class MethodError(Invalid):
    """The path exists, the method does not. `allowed` is the value of the Allow header."""

    def __init__(self, path: bytes, allowed: str) -> None:
        super().__init__(f"use {allowed} for {_shown(path)}", status=405)
        self.allowed = allowed


class Paths:
    """`open`: paths that need no key."""

    def __init__(self) -> None:
        self.open: set[bytes] = set()
        self._exact: dict[bytes, dict[bytes, Act]] = {}
        self._below: dict[bytes, dict[bytes, Act]] = {}

    def add(self, method: bytes, path: bytes, act: Act, *, open: bool = False) -> None:
        """A path that ends in `/` stands for everything directly or further below it."""
        table = self._below if path.endswith(b"/") else self._exact
        table.setdefault(path, {})[method] = act
        if open:
            self.open.add(path)

    def find(self, method: bytes, path: bytes) -> Act:
        """Raises Invalid: 404 for a path that is none, 405 for a method it does not have."""
        acts = self._exact.get(path) or self._longest(path)
        if acts is None:
            raise Invalid(f"unknown path: {method.decode()} {_shown(path)}", status=404)
        act = acts.get(method) or (acts.get(b"GET") if method == b"HEAD" else None)
        if act is None:
            raise MethodError(path, ", ".join(sorted(name.decode() for name in acts)))
        return act

    def _longest(self, path: bytes) -> dict[bytes, Act] | None:
        at = path.rfind(b"/")
        while at > 0:
            found = self._below.get(path[: at + 1])
            if found is not None and len(path) > at + 1:
                return found
            at = path.rfind(b"/", 0, at)
        return None


def _shown(path: bytes) -> str:
    return path[:SHOWN_BYTES].decode("ascii", "replace")
