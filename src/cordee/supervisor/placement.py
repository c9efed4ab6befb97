"""Which process gets which processor, when there are enough cores and when there are not.

Processors are counted P1 … Pn in the order the processes are given (workers first, so that they lie on different cores), and
laid over the cores round robin. Where there are more cores than processes the spare ones go to the workers: an engine uses
as many threads as it has cores, and gateways never share a core with one then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Processor:
    """A place to run: `number` is n of Pn, `cores` the kernel's numbers. `shared`: another processor lies on them too."""

    number: int
    cores: frozenset[int]
    shared: bool

    def __str__(self) -> str:
        cores = sorted(self.cores)
        return f"P{self.number} → core{'s' if len(cores) > 1 else ''} {_ranges(cores)}"


def place(hungry: Sequence[bool], cores: Sequence[int]) -> list[Processor]:
    """A processor for each process, in order; `hungry[i]` says that process i can use more than one core."""
    assert cores
    ordered = sorted(cores)
    taken = [{ordered[i % len(ordered)]} for i in range(len(hungry))]
    eaters = [i for i, wants in enumerate(hungry) if wants]
    if eaters:
        for i, core in enumerate(ordered[len(hungry) :]):
            taken[eaters[i % len(eaters)]].add(core)
    shared = len(hungry) > len(ordered)
    return [Processor(i + 1, frozenset(own), shared) for i, own in enumerate(taken)]


def _ranges(cores: Sequence[int]) -> str:
    """[0, 2, 3, 4] → "0,2–4"."""
    parts: list[list[int]] = []
    for core in cores:
        if parts and core == parts[-1][-1] + 1:
            parts[-1].append(core)
        else:
            parts.append([core])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}–{part[-1]}" for part in parts)
