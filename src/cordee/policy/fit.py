"""Decides whether one replica can take one call: the filter before every score."""

from __future__ import annotations

from cordee.domain.replica import Continuation, ReplicaKind
from cordee.policy.replica import Replica, Want


def fits(replica: Replica, want: Want) -> bool:
    """Of a replica that may be asked at all."""
    return (
        (want.anyway or replica.used + want.size.sequences <= replica.limit + (replica.yielding if want.presses else 0))
        and replica.id != want.avoid
        and suits(replica, want)
    )


def suits(replica: Replica, want: Want) -> bool:
    """Whatever its load is."""
    return (
        (not want.fingerprint or replica.fingerprint == want.fingerprint)
        and (not want.continues or replica.continues is not Continuation.RESTART)
        and (not want.never or replica.id not in want.never)
        and (not want.own or replica.kind is ReplicaKind.LINK)
    )


def is_plain(want: Want) -> bool:
    """Nothing but room is asked for: the case that has to be quick."""
    return not (
        want.anyway or want.avoid or want.never or want.fingerprint or want.continues or want.own or want.presses
    )
