"""One replica as this gateway sees it, and what a call asks of one. Facts keep a replica; decisions read it.

What decisions read is kept ready to be compared: `limit`, the sequences that may be there now, and `room`, its tokens of
capacity times its weight, so that a weight costs a decision nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING

from cordee.domain.record import record
from cordee.domain.replica import Capacity, Continuation, Load, ReplicaKind
from cordee.policy.breaker import Breaker
from cordee.policy.pace import Pace

if TYPE_CHECKING:
    from cordee.policy.candidates import Candidates

HEALTH_MIN = 0.05  # the lowest weight of one that is still asked
LAST_RESORT = 0.1  # the weight of one that looks broken while too many others do too


@record
class Size:
    """What a call will occupy. `yields`: so many of its sequences make room for a call of a higher class where a replica can do that."""

    sequences: int
    tokens: int
    yields: int = 0


@record
class Want:
    """What a call asks of the replica that is to serve it.

    `size` must fit unless `anyway` (a call that was accepted goes on wherever it can). `avoid`: rather not this one; `never`:
    not these; `prefer`: this one if it can be asked at all, it has the answer so far. `fingerprint`: only equals of it;
    `continues`: only one that can go on from text that has left. `affinity`: calls of one value share the beginning of their
    prompts (0: unknown). `region`: where the caller is. `own`: only a worker of ours can do what is asked.
    `presses`: calls of a lower class may make room for it.
    """

    size: Size
    anyway: bool = False
    avoid: str = ""
    never: frozenset[str] = frozenset()
    prefer: str = ""
    fingerprint: str = ""
    continues: bool = False
    affinity: int = 0
    region: str = ""
    own: bool = False
    presses: bool = False


class Replica:
    """`used` sequences and `tokens` are what is known to be there now: the last report and what was sent since, or, where nothing
    is reported, what this gateway has there: `mine` sequences and `mine_tokens`.

    `weight` is the operator's, for the strategy that goes by weights; `health`, above 0 up to 1, is ours: the product of `ramp` (it
    starts slowly), `verdict` (it is slower or worse than its pool) and of `is_last` (it looks broken, and is kept as a last resort).
    `share` of its sequences may be there. Who changes any of these or `capacity` calls `weigh`.

    `seed`: bits of its id alone, the same in every gateway: they rank it among others for calls that begin alike.

    `crowd` gateways send to it and do much the same: what this one has sent and got back since the last report, the others have
    too. `surge` is that guess, in tokens; scores count it, room does not.
    """

    __slots__ = (
        "_ready", "_unseen", "at", "breaker", "capacity", "continues", "crowd", "exact", "fingerprint", "group", "health", "id",
        "is_ejected", "is_full", "is_last", "is_new", "kind", "limit", "mine", "mine_tokens", "pace", "preempts", "ramp",
        "region", "rests_until_s", "room", "seed", "sent", "share", "surge", "tokens", "used", "verdict", "watcher", "weight",
        "yielding",
    )  # fmt: skip

    def __init__(
        self, id: str, kind: ReplicaKind, capacity: Capacity, fingerprint: str, breaker: Breaker, *, exact: bool = False,
        weight: float = 1.0, region: str = "", continues: Continuation | None = None,
    ) -> None:  # fmt: skip
        self.id = id
        self.seed = int.from_bytes(blake2b(id.encode(), digest_size=8).digest())
        self.kind = kind
        self.capacity = capacity
        self.fingerprint = fingerprint
        self.breaker = breaker
        self.exact = exact
        self.weight = weight
        self.region = region
        if continues is None:
            own = Continuation.EXACT if exact else Continuation.TOKENS
            continues = own if kind is ReplicaKind.LINK else Continuation.RESTART
        self.continues = continues
        self.mine = 0
        self.mine_tokens = 0
        self.used = 0
        self.tokens = 0
        self.sent = 0
        self.preempts = False  # it lets calls of a lower class make room for those of a higher one
        self.yielding = 0  # sequences of this gateway there that would
        self.crowd = 1
        self.surge = 0
        self.pace = Pace()
        self.is_new = True  # its process began since it was ready last
        self.is_ejected = False  # left out as an outlier
        self.is_last = False
        self.rests_until_s = 0.0  # it said itself that asking before makes no sense
        self.ramp = self.share = self.verdict = 1.0
        self.watcher: Callable[[Replica], None] | None = None  # told of every change in whether it may be asked
        self.group: Candidates | None = None  # where it stands while it may be asked
        self.at = 0  # its place there
        self.is_full = False  # it stands among the full ones there
        self._ready = False
        self._unseen: deque[Size] = deque()
        self.weigh()

    @property
    def ready(self) -> bool:
        """It is there and serves its model, as far as this gateway can see."""
        return self._ready

    @ready.setter
    def ready(self, ready: bool) -> None:
        if ready != self._ready:
            self._ready = ready
            if self.watcher is not None:
                self.watcher(self)

    def began(self, size: Size) -> None:
        """A call of this gateway takes a seat here."""
        self.mine += size.sequences
        self.mine_tokens += size.tokens
        self.used += size.sequences
        self.tokens += size.tokens
        if size.yields and self.preempts:
            self.yielding += size.yields
        if self.kind is ReplicaKind.LINK:
            self.sent += 1
            self._unseen.append(size)
            if self.crowd > 1:
                self.surge += (self.crowd - 1) * size.tokens

    def left(self, size: Size) -> None:
        """It gives the seat back. A replica that reports will say soon what that means; until then it counts as free."""
        self.mine -= size.sequences
        self.mine_tokens -= size.tokens
        if self.yielding and size.yields:
            self.yielding = max(0, self.yielding - size.yields)
        self.used = used if (used := self.used - size.sequences) > 0 else 0
        self.tokens = tokens if (tokens := self.tokens - size.tokens) > 0 else 0
        if self.crowd > 1:
            self.surge -= (self.crowd - 1) * size.tokens
        if self.is_full:
            self._look_again()

    def reported(self, load: Load) -> None:
        """The replica's own word: it covers the first `load.seen` calls of this connection. One that is no worker of ours does not
        count them, so what this gateway has there is what it has at least."""
        unseen = self._unseen
        while unseen and self.sent - len(unseen) < load.seen:
            unseen.popleft()
        self.used = load.running + load.waiting
        self.tokens = load.tokens
        if self.kind is not ReplicaKind.LINK and self.used < self.mine:
            self.used = self.mine
        for size in unseen:
            self.used += size.sequences
            self.tokens += size.tokens
        if self.crowd > 1:
            self.surge = (self.crowd - 1) * (self.tokens - load.tokens)
        if self.is_full:
            self._look_again()

    def reconnected(self, capacity: Capacity | None = None) -> None:
        """A new connection counts from zero. It is the proof of a process that answers: what the breaker knew is over."""
        self.sent = 0
        self._unseen.clear()
        self.used = self.tokens = self.surge = self.yielding = 0
        self.is_new = True
        self.is_ejected = False
        self.verdict = 1.0
        self.pace.forget()
        self.capacity = capacity or self.capacity
        self.breaker.close()
        self.weigh()
        if self.watcher is not None:
            self.watcher(self)

    def rest(self, until_s: float) -> None:
        """It said when asking it again makes sense: nobody asks before. It is no fault of its."""
        self.rests_until_s = max(self.rests_until_s, until_s)
        if self.watcher is not None:
            self.watcher(self)

    def rested(self) -> None:
        """Its rest is over before its time."""
        self.rests_until_s = 0.0
        if self.watcher is not None:
            self.watcher(self)

    def weigh(self) -> None:
        """Keep ready what decisions compare."""
        capacity = self.capacity
        self.health = max(HEALTH_MIN, self.ramp * self.verdict * (LAST_RESORT if self.is_last else 1.0))
        self.room = capacity.tokens * self.health
        self.limit = capacity.sequences if self.share >= 1 else max(1, int(capacity.sequences * self.share))
        if self.is_full:
            self._look_again()

    def answered(self, number: int, tenant: str = "") -> None:
        """An attempt that `breaker.began` numbered ended well."""
        self.breaker.succeeded(number, tenant)
        self.pace.succeeded()

    def broke(self, now: float, noise: float, number: int, *, call: str, tenant: str, ran: bool) -> None:
        """It ended by a fault of the replica."""
        self.breaker.failed(now, noise, number, call=call, tenant=tenant, ran=ran)
        self.pace.failed(now)

    @property
    def score(self) -> float:
        """Load as a share of capacity, in tokens, the weight counted in."""
        return (self.tokens + self.surge) / self.room

    def _look_again(self) -> None:
        if self.used < self.limit and self.group is not None:
            self.group.has_room(self)
