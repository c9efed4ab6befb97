"""Decides the weight of each replica of a pool as time passes: it rises while one starts slowly, falls while one stands out, and is
zero for a while where one should be left out altogether. Looked at in steps, some of a large pool at a time, so that a decision
pays the same in every pool."""

from __future__ import annotations

from collections.abc import Sequence

from cordee.policy.outlier import OutlierRules, medians, verdict
from cordee.policy.replica import Replica
from cordee.policy.slow_start import START_SHARE, begin_share, share
from cordee.policy.strategy import RouteRules

STEP_S = 0.1  # between two steps of a slow start
JUDGED_MAX = 64  # replicas judged at once, each against the median of these; the next ones follow at the next time
NEVER = float("inf")


class Health:
    """Of one pool. `due_s`: when to call `over` and `step` again."""

    __slots__ = ("_at", "_away", "_born_s", "_ejected", "_judge_s", "_outliers", "_ramps", "_rules", "due_s")

    def __init__(self, rules: RouteRules, outliers: OutlierRules) -> None:
        self._rules = rules
        self._outliers = outliers
        self._ramps: dict[Replica, tuple[float, float]] = {}  # since when, begun with what share
        self._away: dict[Replica, float] = {}
        self._ejected: dict[Replica, float] = {}  # until when
        self._born_s = float("-inf")
        self._judge_s = float("-inf")
        self._at = 0
        self.due_s = NEVER

    def follow(self, rules: RouteRules, outliers: OutlierRules) -> None:
        """By these from now on."""
        self._rules, self._outliers = rules, outliers

    def went(self, now: float, replica: Replica) -> None:
        self._away[replica] = now
        self._ramps.pop(replica, None)

    def came(self, now: float, replica: Replica, *, alone: bool) -> None:
        """`alone`: nobody else is there, so this is where the pool begins, or begins again."""
        if alone:
            self._born_s = now
        away_s = now - self._away.pop(replica, now)
        begun_with = begin_share(None if replica.is_new else away_s, self._rules.slow_start_s)
        replica.is_new = False
        self._begin(now, replica, begun_with)

    def recovered(self, now: float, replica: Replica) -> None:
        """It is no longer left out."""
        replica.is_last = False
        self._begin(now, replica, START_SHARE)

    def gone(self, replica: Replica) -> None:
        for known in (self._ramps, self._away, self._ejected):
            known.pop(replica, None)

    def over(self, now: float) -> list[Replica]:
        """Those who have been left out as outliers for long enough; what was known of their pace is forgotten."""
        back = [replica for replica, until_s in self._ejected.items() if until_s <= now or not replica.is_ejected]
        for replica in back:
            del self._ejected[replica]
            self._acquit(replica)
        return back

    def step(self, now: float, replicas: Sequence[Replica], standing: int, room: int) -> list[Replica]:
        """Moves every weight that moves, and returns those to be left out from now on, at most `room`. `standing`: how many
        replicas may be asked."""
        for replica, (since_s, begun_with) in list(self._ramps.items()):
            replica.ramp = share(now - since_s, begun_with, self._rules.slow_start_s)
            replica.share = replica.ramp if standing > len(self._ramps) else 1.0
            if replica.ramp >= 1:
                del self._ramps[replica]
            replica.weigh()
        out: list[Replica] = []
        if now >= self._judge_s and len(replicas) > 1:
            self._judge_s = now + self._outliers.judge_s
            out = self._judge(now, replicas, room)
        self.due_s = min(
            now + STEP_S if self._ramps else NEVER,
            self._judge_s if len(replicas) > 1 else NEVER,
            min(self._ejected.values(), default=NEVER),
        )
        return out

    def _begin(self, now: float, replica: Replica, begun_with: float) -> None:
        is_young = now - self._born_s < self._rules.slow_start_s  # then everybody is new
        if begun_with >= 1 or is_young:
            replica.ramp = replica.share = 1.0
            self._ramps.pop(replica, None)
        else:
            self._ramps[replica] = (now, begun_with)
            replica.ramp = begun_with
        replica.weigh()

    def _judge(self, now: float, replicas: Sequence[Replica], room: int) -> list[Replica]:
        count = len(replicas)
        start, self._at = self._at % count, (self._at + JUDGED_MAX) % count
        judged = replicas if count <= JUDGED_MAX else [*replicas, *replicas[:JUDGED_MAX]][start : start + JUDGED_MAX]
        pool, out = medians(judged), []
        for replica in judged:
            pace = replica.pace
            if not pace.is_known or replica.is_ejected:
                continue
            if pace.noted_s + self._outliers.window_s < now:
                was_lowered = replica.verdict < 1
                self._acquit(replica)
                if was_lowered and replica.ready:
                    self._begin(now, replica, START_SHARE)
                continue
            weight = verdict(pace, pool, self._outliers)
            if weight == 0 and room > 0 and replica.ready and replica.breaker.is_closed:
                room -= 1
                replica.is_ejected = True
                self._ejected[replica] = now + self._outliers.window_s
                out.append(replica)
            elif weight != replica.verdict:
                replica.verdict = weight
                replica.weigh()
        return out

    def _acquit(self, replica: Replica) -> None:
        replica.pace.forget()
        replica.is_ejected = False
        replica.verdict = 1.0
        replica.weigh()
