"""Decides which replica of a pool is asked: filter → score → pick.

The score is load over capacity in tokens: what the replica reported last, plus what this gateway has sent it since. With
one gateway the exact minimum is best; with several, everybody's exact minimum over slightly old reports is the same
replica, so the better of two random ones is taken (Mitzenmacher, The Power of Two Choices, 2001; How Useful Is Old
Information?, 2000).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from cordee.domain.replica import Capacity, Load, ReplicaKind
from cordee.policy.breaker import Breaker

SCAN_MAX = 16  # replicas looked at one by one; above it two random candidates decide, so a decision costs the same


@dataclass(frozen=True, slots=True)
class Size:
    """What a call will occupy."""

    sequences: int
    tokens: int


class Replica:
    """One replica as this gateway sees it."""

    __slots__ = (
        "_unseen", "_unseen_sequences", "_unseen_tokens", "breaker", "capacity", "exact", "fingerprint", "id", "kind", "load",
        "mine", "mine_tokens", "ready", "sent",
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
        self.load = Load()
        self.mine = 0
        self.mine_tokens = 0
        self.sent = 0
        self._unseen: deque[Size] = deque()
        self._unseen_sequences = 0
        self._unseen_tokens = 0

    def began(self, size: Size) -> None:
        self.mine += size.sequences
        self.mine_tokens += size.tokens
        if self.kind is ReplicaKind.LINK:
            self.sent += 1
            self._unseen.append(size)
            self._unseen_sequences += size.sequences
            self._unseen_tokens += size.tokens

    def left(self, size: Size) -> None:
        self.mine -= size.sequences
        self.mine_tokens -= size.tokens

    def reported(self, load: Load) -> None:
        """The replica's own word: it covers the first `load.seen` calls of this connection."""
        self.load = load
        unseen = self._unseen
        while unseen and self.sent - len(unseen) < load.seen:
            size = unseen.popleft()
            self._unseen_sequences -= size.sequences
            self._unseen_tokens -= size.tokens

    def reconnected(self) -> None:
        """A new connection counts from zero."""
        self.sent = 0
        self._unseen.clear()
        self._unseen_sequences = self._unseen_tokens = 0
        self.load = Load()

    @property
    def sequences(self) -> int:
        if self.kind is ReplicaKind.LINK:
            return self.load.running + self.load.waiting + self._unseen_sequences
        return self.mine

    def has_room(self, size: Size) -> bool:
        return self.sequences + size.sequences <= self.capacity.sequences

    @property
    def score(self) -> float:
        if self.kind is ReplicaKind.LINK:
            return (self.load.tokens + self._unseen_tokens) / self.capacity.tokens
        return self.mine_tokens / self.capacity.tokens


def pick(
    now: float,
    rng: Random,
    replicas: Sequence[Replica],
    size: Size,
    *,
    avoid: str = "",
    fingerprint: str = "",
    overcommit: bool = False,
    alone: bool = True,
) -> Replica | None:
    """The replica to ask, or None when none has room.

    `avoid`: not this one; `fingerprint`: only its equals; `overcommit`: room does not matter (a call that was accepted
    goes on); `alone`: no other gateway shares these replicas.
    """  # fmt: skip
    count = len(replicas)
    if count > SCAN_MAX:
        for _ in range(TRIES):
            sample: Sequence[Replica] = (replicas[int(rng.random() * count)], replicas[int(rng.random() * count)])
            best = _least(now, rng, sample, size, avoid, fingerprint, overcommit)
            if best is not None:
                return best
    elif not alone and count > 2:  # of exactly two, both candidates are always looked at
        sample = tuple(rng.sample(replicas, 2))
        best = _least(now, rng, sample, size, avoid, fingerprint, overcommit)
        if best is not None:
            return best
    return _least(now, rng, replicas, size, avoid, fingerprint, overcommit)


TRIES = 4  # pairs drawn before all are looked at


def _least(
    now: float, rng: Random, replicas: Sequence[Replica], size: Size, avoid: str, fingerprint: str, overcommit: bool
) -> Replica | None:
    best: Replica | None = None
    best_score = 0.0
    for replica in replicas:
        if (
            not replica.ready
            or replica.id == avoid
            or (fingerprint and replica.fingerprint != fingerprint)
            or not (overcommit or replica.has_room(size))
            or not replica.breaker.ask(now)
        ):
            continue
        score = replica.score
        if best is None or score < best_score or (score == best_score and rng.random() < 0.5):
            best, best_score = replica, score
    return best
