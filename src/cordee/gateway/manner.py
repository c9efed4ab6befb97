"""How a call is to be treated, as the head of its request and the key of its caller say: its class, its deadlines, whether it may
leave. Clients send the same head again and again; what was read from one is remembered with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cordee.domain.call import Deadlines, Priority, Sensitivity
from cordee.domain.caller import Caller
from cordee.gateway import near, prepare
from cordee.gateway.kept.idempotency import KEY, RESUMABLE
from cordee.gateway.outside import leaving
from cordee.gateway.outside.hops import Hops
from cordee.http.request import Request

QUEUE_EVENTS = b"x-cordee-queue-events"


class Manner:
    """`said`: header lines of the answer where it is treated otherwise than it asked. `headers`: what of its own goes on with it.
    `asks_kept`: it says something about outliving this gateway.
    `rules`: what it was read by."""

    __slots__ = (
        "asks_kept", "caller", "deadlines", "headers", "local_only", "path", "priority", "region", "rules", "said", "sensitivity",
        "tells_queue",
    )  # fmt: skip

    def __init__(self, rules: Manners, request: Request, caller: Caller, tier: Priority | None) -> None:
        """Raises Invalid."""
        headers = request.headers
        wished = prepare.wish(headers) if prepare.PRIORITY in headers else tier
        self.rules = rules
        self.caller = caller
        self.path = request.path.decode()
        self.priority = max(wished if wished is not None else rules.usual(request.path, caller), caller.priority_max)
        self.said = b"" if wished in (None, self.priority) else prepare.lowered(self.priority)
        self.deadlines: Deadlines = prepare.deadlines(request, rules.deadlines)
        self.headers: Sequence[tuple[bytes, bytes]] = rules.hops.sent_on(headers)
        self.local_only: bool = leaving.local_only(request, caller)
        self.sensitivity: Sensitivity = leaving.sensitivity(request, caller)
        self.asks_kept = KEY in headers or RESUMABLE in headers
        self.tells_queue = QUEUE_EVENTS in headers
        self.region = near.region(request, caller)


class Manners:
    """What holds where a request does not say otherwise: one object from one reload to the next. `priorities`: of calls, by path."""

    __slots__ = ("deadlines", "hops", "priorities")

    def __init__(self, deadlines: Deadlines, priorities: Mapping[bytes, Priority], hops: Hops) -> None:
        self.deadlines = deadlines
        self.priorities = priorities
        self.hops = hops

    def usual(self, path: bytes, caller: Caller) -> Priority:
        """The class of calls that do not say."""
        return self.priorities.get(path, caller.priority) if self.priorities else caller.priority

    def of(self, request: Request, caller: Caller, tier: Priority | None = None) -> Manner:
        """`tier`: the class that the body asks for, where the head does not. Raises Invalid."""
        found = request.remembered
        if found is None:
            return Manner(self, request, caller, tier)
        manner: Manner | None = found.get(tier)
        if manner is None or manner.caller is not caller or manner.rules is not self:
            manner = found[tier] = Manner(self, request, caller, tier)
        return manner
