"""Reads from a request and its caller whether it may leave this installation, and how late: a header can only tighten what the
key says.
"""

from __future__ import annotations

from cordee.domain.call import Sensitivity
from cordee.domain.caller import Caller
from cordee.http.request import Request
from cordee.wire.errors import Invalid

LOCAL_ONLY, SENSITIVITY = b"x-cordee-local-only", b"x-cordee-sensitivity"
YES, NO = frozenset({b"1", b"true"}), frozenset({b"0", b"false"})


def local_only(request: Request, caller: Caller) -> bool:
    """Raises Invalid."""
    value = request.headers.get(LOCAL_ONLY)
    if value is None:
        return caller.local_only
    if value.lower() not in YES | NO:
        raise Invalid("the header X-Cordee-Local-Only is 1 or 0", "X-Cordee-Local-Only")
    return caller.local_only or value.lower() in YES


def sensitivity(request: Request, caller: Caller) -> Sensitivity:
    """Raises Invalid."""
    value = request.headers.get(SENSITIVITY)
    if value is None:
        return caller.sensitivity
    try:
        wished = Sensitivity[value.decode("ascii", "replace").upper()]
    except KeyError:
        names = ", ".join(one.name.lower() for one in Sensitivity)
        raise Invalid(f"the header X-Cordee-Sensitivity is one of {names}", "X-Cordee-Sensitivity") from None
    return max(caller.sensitivity, wished)
