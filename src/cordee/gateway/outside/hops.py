"""Keeps a request from going in a circle: gateway → provider → gateway.

Every request that we send on says how many gateways it has passed and which installations they belong to. One that comes back
to its own installation, or that has passed too many, is refused with 508 before it becomes a call.
"""

from __future__ import annotations

from collections.abc import Mapping

from cordee.wire.errors import Invalid

HOPS, VIA = b"x-cordee-hops", b"x-cordee-via"
HOPS_MAX = 3
VIA_BYTES_MAX = 256
LOOP = 508  # RFC 5842, 7.2
TRACE = (b"traceparent", b"tracestate")  # W3C Trace Context; nothing else of a client's headers is sent on
SENT_ON = frozenset((HOPS, VIA, *TRACE))


class Hops:
    """`installation` is our name on the way; "" counts nothing and refuses nothing."""

    __slots__ = ("_installation",)

    def __init__(self, installation: str) -> None:
        self._installation = installation.encode()

    def sent_on(self, headers: Mapping[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
        """What of a client's headers goes on with its call, this hop counted in. Raises Invalid for a request that goes in a
        circle."""
        if SENT_ON.isdisjoint(headers):
            return ()
        passed = [(name, headers[name]) for name in TRACE if name in headers]
        if HOPS in headers or VIA in headers:
            passed += self._counted(headers)
        return tuple(passed)

    def _counted(self, headers: Mapping[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        given, via = headers.get(HOPS, b"1"), headers.get(VIA, b"")
        if not given.isdigit() or len(given) > len(b"%d" % HOPS_MAX) + 1 or len(via) > VIA_BYTES_MAX:
            raise Invalid(f"the header X-Cordee-Hops is a number up to {HOPS_MAX}", "X-Cordee-Hops")
        if self._installation and self._installation in via.replace(b" ", b"").split(b","):
            raise Invalid(
                "this request has been at this installation before: it goes in a circle", "X-Cordee-Via", status=LOOP
            )
        if int(given) >= HOPS_MAX:
            raise Invalid(
                f"this request has passed {int(given)} gateways; more than {HOPS_MAX} are a circle",
                "X-Cordee-Hops",
                status=LOOP,
            )
        return [(HOPS, b"%d" % (int(given) + 1)), (VIA, b", ".join(filter(None, (via, self._installation))))]
