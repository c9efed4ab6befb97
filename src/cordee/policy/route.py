"""Decides which replica of a pool is asked: filter → score → pick.

The score is load over capacity in tokens: what the replica reported last, plus what this gateway has sent it since. With
one gateway the exact minimum is best; with several, everybody's exact minimum over slightly old reports is the same
replica, so the better of two random ones is taken (Mitzenmacher, The Power of Two Choices, 2001; How Useful Is Old
Information?, 2000).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cordee.domain.record import record
from cordee.domain.replica import Capacity, Load, ReplicaKind
from cordee.policy.breaker import Breaker

if TYPE_CHECKING:
    from random import Random

SCAN_MAX = 16  # replicas looked at one by one; above it two random candidates decide, so a decision costs the same


@record
class Size:
    """What a call will occupy."""

    sequences: int
    tokens: int


@record
class Want:
    """What a call asks of the replica that is to serve it.

    `size` must fit unless `anyway` (a call that was accepted goes on wherever it can). `avoid`: rather not this one; `never`:
    not these; `prefer`: this one if it can be asked at all, it has the answer so far. `fingerprint`: only equals of it;
    `continues`: only one that can go on from text that has left. `affinity`: calls of one value share the beginning of their
    prompts (0: unknown). `region`: where the caller is.
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


class Replica:
    """One replica as this gateway sees it. `used` sequences and `tokens` are what is known to be there now: the last report
    and what was sent since, or, where nothing is reported, what this gateway has there. Facts keep them; decisions read."""

    __slots__ = (
        "_unseen", "breaker", "capacity", "exact", "fingerprint", "id", "kind", "mine", "ready", "sent", "tokens", "used",
    )  # fmt: skip

    def __init__(
        self, id: str, kind: ReplicaKind, capacity: Capacity, fingerprint: str, breaker: Breaker, *, exact: bool = False
    ) -> None:
        self.id = id
        self.kind = kind
        self.capacity = capacity
        self.fingerprint = fingerprint
        self.breaker = breaker
        self.exact = exact
        self.ready = False
        self.mine = 0
        self.used = 0
        self.tokens = 0
        self.sent = 0
        self._unseen: deque[Size] = deque()

    def began(self, size: Size) -> None:
        """A call of this gateway takes a seat here."""
        self.mine += size.sequences
        self.used += size.sequences
        self.tokens += size.tokens
        if self.kind is ReplicaKind.LINK:
            self.sent += 1
            self._unseen.append(size)

    def left(self, size: Size) -> None:
        """It gives the seat back. A replica that reports will say soon what that means; until then it counts as free."""
        self.mine -= size.sequences
        self.used = used if (used := self.used - size.sequences) > 0 else 0
        self.tokens = tokens if (tokens := self.tokens - size.tokens) > 0 else 0

    def reported(self, load: Load) -> None:
        """The replica's own word: it covers the first `load.seen` calls of this connection."""
        unseen = self._unseen
        while unseen and self.sent - len(unseen) < load.seen:
            unseen.popleft()
        self.used = load.running + load.waiting
        self.tokens = load.tokens
        for size in unseen:
            self.used += size.sequences
            self.tokens += size.tokens

    def reconnected(self) -> None:
        """A new connection counts from zero."""
        self.sent = 0
        self._unseen.clear()
        self.used = self.tokens = 0

    @property
    def score(self) -> float:
        return self.tokens / self.capacity.tokens


def pick(now: float, rng: Random, replicas: Sequence[Replica], want: Want, *, alone: bool = True) -> Replica | None:
    """The replica to ask, or None when none has room. `alone`: no other gateway shares these replicas."""
    count = len(replicas)
    if count > SCAN_MAX:
        for _ in range(TRIES):
            sample: Sequence[Replica] = (replicas[int(rng.random() * count)], replicas[int(rng.random() * count)])
            best = _least(now, rng, sample, want)
            if best is not None:
                return best
    elif not alone and count > 2:  # of exactly two, both candidates are always looked at
        sample = tuple(rng.sample(replicas, 2))
        best = _least(now, rng, sample, want)
        if best is not None:
            return best
    return _least(now, rng, replicas, want)


TRIES = 4  # pairs drawn before all are looked at


def _least(now: float, rng: Random, replicas: Sequence[Replica], want: Want) -> Replica | None:
    sequences, anyway, avoid, fingerprint = want.size.sequences, want.anyway, want.avoid, want.fingerprint
    best: Replica | None = None
    best_score = 0.0
    for replica in replicas:
        capacity = replica.capacity
        if (
            not replica.ready
            or (not anyway and replica.used + sequences > capacity.sequences)
            or not (replica.breaker.is_closed or replica.breaker.ask(now))
            or replica.id == avoid
            or (fingerprint and replica.fingerprint != fingerprint)
        ):
            continue
        score = replica.tokens / capacity.tokens
        if best is None or score < best_score or (score == best_score and rng.random() < 0.5):
            best, best_score = replica, score
    return best
