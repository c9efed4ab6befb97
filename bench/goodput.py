"""What a pool still serves when 0.5 to 10 times its capacity is asked for, how it comes back, and what one flooding tenant does
to the others: sim/goodput.py in virtual time, with the production policies. `python -m bench.goodput`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from bench import machine
from cordee.domain.call import Priority
from cordee.domain.replica import Capacity, ReplicaKind
from cordee.policy.breaker import Breaker, BreakerRules
from cordee.policy.route import Replica, Size, Want
from cordee.policy.seats import SeatRules, Seats, Ticket
from cordee.sim.goodput import House, Phase, Seen, Storm, without_bound
from cordee.sim.goodput_figures import Figures, figures, percentile, recovery_s, responses_s

QUESTION = "What share of its capacity does a pool serve at 0.5 to 10 times the load, and how does it come back?"
LOADS = (0.5, 0.7, 0.9, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0)
SEEDS = (1, 2, 3)
OVERLOAD_S, WARM_UP_S = 80.0, 30.0
CALM = 0.7
BACK_S = 0.25  # a wait that is back to normal at 70 %
PLOT = Path(__file__).parent.parent / "docs" / "overload.svg"


def variants(load: float) -> dict[str, Storm]:
    storm = Storm((Phase(load, OVERLOAD_S),))
    return {
        "as shipped": storm,
        "clients that come back at once, five times": replace(storm, obedient=False, retries=5),
        "queue without a bound on overload": without_bound(storm),
        "newest first": replace(storm, newest_first=True),
    }


def middle(of: Sequence[Figures]) -> dict[str, float]:
    """The median over the seeds, figure by figure."""
    return {name: round(median(asdict(one)[name] for one in of), 4) for name in asdict(of[0])}


def sweep() -> dict[str, dict[str, dict[str, float]]]:
    found: dict[str, dict[str, dict[str, float]]] = {}
    for load in LOADS:
        for name, storm in variants(load).items():
            runs = [figures(storm, House(seed, storm).run(), WARM_UP_S, OVERLOAD_S) for seed in SEEDS]
            found.setdefault(name, {})[f"{load:g}"] = middle(runs)
        print(f"{load:g}×: goodput {found['as shipped'][f'{load:g}']['goodput']:.3f}", flush=True)
    return found


def back(retries: int) -> tuple[dict[str, float], Seen]:
    """60 s at five times the capacity, then 70 %."""
    storm = Storm((Phase(CALM, 30), Phase(5.0, 60), Phase(CALM, 60)), retries=retries)
    times, batch_times, changes = [], [], []
    for seed in SEEDS:
        house = House(seed, storm)
        seen = house.run()
        upper = Seen(served=[one for one in seen.served if one.priority is not Priority.BATCH])
        times.append(recovery_s(upper, 90, BACK_S))
        batch_times.append(recovery_s(seen, 90, BACK_S))
        changes.append(house.ladder.changes)
    return {
        "interactive_and_standard_s": round(max(times), 1),
        "all_s": round(max(batch_times), 1),
        "steps_taken_up_and_down": max(changes),
    }, seen


def flood() -> dict[str, float]:
    """Nineteen tenants at 57 % of the capacity, and one that sends as much as each of them, or a hundred times as much."""
    calm = Storm((Phase(0.6, OVERLOAD_S),), interactive=0.2)
    wild = replace(calm, phases=(Phase(0.6 * (100 + 19) / 20, OVERLOAD_S),), flood=100.0)
    seen = House(1, wild).run()
    served = [one for one in seen.served if one.arrived_s > WARM_UP_S]
    before, after = (responses_s(storm, House(1, storm).run(), WARM_UP_S) for storm in (calm, wild))
    return {
        "others_p99_s": round(percentile(before, 0.99), 3),
        "others_p99_with_flood_s": round(percentile(after, 0.99), 3),
        "ratio": round(percentile(after, 0.99) / percentile(before, 0.99), 3),
        "others_wait_p99_with_flood_s": round(percentile([one.wait_s for one in served if one.tenant], 0.99), 3),
        "share_of_the_flood": round(
            sum(one.tokens for one in served if not one.tenant) / sum(one.tokens for one in served), 3
        ),
    }


def decision_us(waiting: int) -> dict[str, float]:
    """Microseconds of one decision with so many calls of a thousand tenants waiting."""
    seats, rng = Seats("m", SeatRules(waiting_max=10 * waiting, wait_s_max=1e6)), Random(1)
    replica = Replica("r", ReplicaKind.HTTP, Capacity(1, 1000), "f", Breaker(BreakerRules()))
    replica.ready = True
    seats.replicas.append(replica)
    size = Want(Size(1, 100))

    def ticket(number: int, start_by_s: float = 1e6) -> Ticket:
        return Ticket("", Priority.STANDARD, size, start_by_s, f"t{number % 1000}")

    seats.ask(0.0, rng, ticket(0))
    began = time.process_time()
    for number in range(waiting):
        seats.ask(0.0, rng, ticket(number))
    queued = time.process_time()
    seats.departed(1.0, 100)
    late = [ticket(number, 1.0) for number in range(1000)]
    ready = time.process_time()
    for one in late:
        seats.ask(1.0, rng, one)
    refused = time.process_time()
    for _ in range(1000):
        replica.left(size.size)
        seats.due(1.0, rng)
    granted = time.process_time()
    return {
        "to_queue_us": round((queued - began) / waiting * 1e6, 2),
        "to_refuse_us": round((refused - ready) / 1000 * 1e6, 2),
        "to_grant_us": round((granted - refused) / 1000 * 1e6, 2),
    }


def plot(found: dict[str, dict[str, dict[str, float]]], seen: Seen) -> None:
    import matplotlib  # only here: the figures need no picture

    matplotlib.use("svg")
    matplotlib.rcParams.update({"font.size": 9, "svg.hashsalt": "cordee", "axes.grid": True, "grid.alpha": 0.3})
    from matplotlib import pyplot

    figure, (left, middle_axes, right) = pyplot.subplots(1, 3, figsize=(11, 3.4))
    for name, rows in found.items():
        loads = [float(load) for load in rows]
        left.plot(loads, [row["goodput"] for row in rows.values()], marker=".", label=name)
        middle_axes.plot(loads, [row["queue_p99_s"] for row in rows.values()], marker=".", label=name)
    left.plot([0.5, 1, 10], [0.5, 1, 1], color="gray", linestyle=":", label="ideal")
    left.set(title="Goodput", xlabel="offered load / capacity", ylabel="served / capacity", ylim=(0, 1.1))
    middle_axes.set(title="Wait in the queue of calls served", xlabel="offered load / capacity", ylabel="p99, seconds")
    left.legend(fontsize=7, loc="lower right")
    for priority in Priority:
        waits = [
            percentile([o.wait_s for o in seen.served if o.priority is priority and at <= o.arrived_s < at + 2], 0.99)
            for at in range(0, 150, 2)
        ]
        right.plot(range(0, 150, 2), waits, label=priority.name.lower())
    right.axvspan(30, 90, color="gray", alpha=0.15, label="5× load")
    right.set(title="70 %, then 5×, then 70 % again", xlabel="arrival, seconds", ylabel="p99 wait, seconds")
    right.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(PLOT, metadata={"Date": None})


def main() -> None:
    began = time.perf_counter()
    found = sweep()
    without, _ = back(retries=0)
    with_retries, seen = back(retries=3)
    report: dict[str, Any] = {
        "sweep": found,
        "recovery_to_normal_at_70_percent": {"no_retries": without, "three_retries": with_retries},
        "one_tenant_floods_100_times": flood(),
        "decision": {str(count): decision_us(count) for count in (100, 10_000)},
    }
    plot(found, seen)
    report["took_s"] = round(time.perf_counter() - began, 1)
    print(machine.write("goodput", QUESTION, report))
    for name in ("recovery_to_normal_at_70_percent", "one_tenant_floods_100_times", "decision", "took_s"):
        print(name, report[name])


if __name__ == "__main__":
    main()
