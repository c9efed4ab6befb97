"""What does one routing decision cost, and does it stay the same from ten replicas to ten thousand?

Every strategy chooses among replicas that are four fifths full, a few of them with open breakers, with outlier detection and slow
start at work; a decision a millisecond of virtual time. The processor time of a decision with everything that is settled
within it, best of several rounds, less what reading the clock costs, and its ratio to that among ten replicas.

python -m bench.routing
"""

from __future__ import annotations

import time
from collections import deque
from random import Random

from bench import machine
from cordee.domain.replica import Capacity, ReplicaKind
from cordee.policy.breaker import Breaker, BreakerRules
from cordee.policy.route import Replica, Router, RouteRules, Size, Strategy, Want

COUNTS = (10, 100, 1000, 10_000)
SLOTS = 10
LOAD = 0.8
DECISIONS, ROUNDS = 2000, 9
APART_S = 0.001
REGIONS = ("eu", "us", "ap")
PREFIXES = 4096
SIZE = Size(1, 100)


def pool(count: int, strategy: Strategy) -> Router:
    router = Router(RouteRules(strategy, regions={"eu": ("us", "ap")}))
    for number in range(count):
        replica = Replica(
            f"replica-{number}", ReplicaKind.HTTP, Capacity(SLOTS, SLOTS * 100), "f", Breaker(BreakerRules(open_s=3600)),
            weight=1 + number % 3, region=REGIONS[number % 3],
        )  # fmt: skip
        replica.ready = True
        router.replicas.append(replica)
    router.ask(0.0, Random(0), Want(SIZE))
    for replica in router.replicas[:: max(10, count // 10)]:
        for _ in range(3):
            replica.breaker.failed(0.0, 0.5)
    return router


def decision_us(count: int, strategy: Strategy, *, alone: bool) -> float:
    """Of one decision, in microseconds."""
    router, rng, now = pool(count, strategy), Random(1), 100.0
    wants = [Want(SIZE, affinity=rng.getrandbits(60) | 1, region=REGIONS[number % 3]) for number in range(PREFIXES)]
    busy: deque[Replica] = deque()
    for number in range(int(count * SLOTS * LOAD)):
        found = router.ask(now, rng, wants[number % PREFIXES], alone=alone)
        assert found is not None
        found.began(SIZE)
        busy.append(found)
    rng.shuffle(busy)
    best = float("inf")
    for _ in range(ROUNDS):
        spent = 0.0
        for number in range(DECISIONS):
            now += APART_S
            gone = busy.popleft()
            gone.left(SIZE)
            gone.pace.noted(now, 0.05, 0.01)
            want = wants[number % PREFIXES]
            before = time.thread_time_ns()
            found = router.ask(now, rng, want, alone=alone)
            spent += time.thread_time_ns() - before
            assert found is not None
            found.began(SIZE)
            busy.append(found)
        best = min(best, spent / DECISIONS / 1000)
    return round(best - clock_us(), 2)


def clock_us() -> float:
    """What is measured around nothing."""
    best = float("inf")
    for _ in range(ROUNDS):
        spent = 0
        for _ in range(DECISIONS):
            before = time.thread_time_ns()
            spent += time.thread_time_ns() - before
        best = min(best, spent / DECISIONS / 1000)
    return best


def main() -> None:
    figures = {}
    for strategy in Strategy:
        for alone in (True, False) if strategy is Strategy.LEAST_LOAD else (True,):
            name = strategy.value + ("" if alone else ", several gateways")
            spent = {count: decision_us(count, strategy, alone=alone) for count in COUNTS}
            ratio = round(spent[COUNTS[-1]] / spent[COUNTS[0]], 2)
            figures[name] = {"decision_us": spent, "ratio_10000_to_10": ratio}
            print(f"{name:32} " + "  ".join(f"{count}: {us:5.2f} µs" for count, us in spent.items()) + f"   ×{ratio}")
    print(machine.write("routing", (__doc__ or "").splitlines()[0], figures))


if __name__ == "__main__":
    main()
