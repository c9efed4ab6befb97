"""How long do calls wait, and how evenly do they lie, with 1 to 8 gateways and load reports up to half a second old?

Virtual time, seeded, with the routing code of production; every strategy, random choice and the herd (each gateway taking the exact
minimum of what it sees). Writes the figures and the plot of docs/routing.md.

python -m bench.sweep
"""

from __future__ import annotations

from pathlib import Path
from statistics import mean

from bench import machine
from cordee.policy.route import Strategy
from cordee.sim.sweep import Case, Figures, sweep

GATEWAYS = (1, 2, 4, 8)
AGES_S = (0.0, 0.025, 0.1, 0.5)
SEEDS = (1, 2, 3)
HERD = "exact minimum (the herd)"
KINDS: dict[str, tuple[Strategy, bool]] = {
    "least_load": (Strategy.LEAST_LOAD, False),
    HERD: (Strategy.LEAST_LOAD, True),
    "least_connections": (Strategy.LEAST_CONNECTIONS, False),
    "round_robin": (Strategy.ROUND_ROBIN, False),
    "weighted (equal weights: random)": (Strategy.WEIGHTED, False),
    "geo": (Strategy.GEO, False),
    "prefix_affinity": (Strategy.PREFIX_AFFINITY, False),
}
PLOT = Path(__file__).parent.parent / "docs" / "routing-sweep.svg"


def measure(gateways: int, age_s: float, strategy: Strategy, *, exact: bool) -> dict[str, float]:
    """Mean over the seeds; waits in milliseconds."""
    runs: list[Figures] = [sweep(Case(gateways, age_s, strategy, exact), seed) for seed in SEEDS]
    return {
        "p50_ms": round(1000 * mean(run.p50_s for run in runs), 1),
        "p99_ms": round(1000 * mean(run.p99_s for run in runs), 1),
        "mean_ms": round(1000 * mean(run.mean_s for run in runs), 1),
        "max_over_mean_in_flight": round(mean(run.spread for run in runs), 3),
    }


def table(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    """p99 wait in ms and, in brackets, the spread; one row a strategy, for 1 and for 8 gateways."""
    columns = [f"{n}/{int(age * 1000)}" for n in (1, 8) for age in AGES_S]
    rows = ["| strategy | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for name, cells in figures.items():
        shown = [f"{cells[key]['p99_ms']:.0f} ({cells[key]['max_over_mean_in_flight']:.2f})" for key in columns]
        rows.append(f"| {name} | " + " | ".join(shown) + " |")
    return "\n".join(rows)


def plot(figures: dict[str, dict[str, dict[str, float]]]) -> None:
    """One panel for each number of gateways."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "routing"
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(GATEWAYS), figsize=(13, 4.2), sharey=True, layout="constrained")
    for panel, n in zip(panels, GATEWAYS, strict=True):
        for (name, cells), marker in zip(figures.items(), "osD^v<>", strict=True):
            waits = [cells[f"{n}/{int(age * 1000)}"]["p99_ms"] for age in AGES_S]
            wide = 2.4 if name in ("least_load", HERD) else 1.1
            panel.plot(range(len(AGES_S)), waits, marker=marker, markersize=4, linewidth=wide, label=name)
        panel.set_title(f"{n} gateway{'s' if n > 1 else ''}")
        panel.set_xticks(range(len(AGES_S)), [f"{int(age * 1000)}" for age in AGES_S])
        panel.set_xlabel("age of the load report (ms)")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("wait for a place, p99 (ms)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle("Waiting at 80 % load: 8 workers of 8 places, answers of 1 s in the mean")
    figure.savefig(PLOT, metadata={"Date": None})


def main() -> None:
    figures = {
        name: {
            f"{n}/{int(age * 1000)}": measure(n, age, strategy, exact=exact) for n in GATEWAYS for age in AGES_S
        }
        for name, (strategy, exact) in KINDS.items()
    }  # fmt: skip
    stale = {name: measure(8, 0.2, strategy, exact=exact) for name, (strategy, exact) in KINDS.items()}
    print(table(figures))
    print("8 gateways, 200 ms:", {name: cell["p99_ms"] for name, cell in stale.items()})
    plot(figures)
    question = (__doc__ or "").splitlines()[0]
    print(machine.write("sweep", question, {"gateways/age_ms": figures, "8/200": stale, "seeds": list(SEEDS)}))


if __name__ == "__main__":
    main()
