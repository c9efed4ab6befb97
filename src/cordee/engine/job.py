"""What goes between the link and an engine: jobs in, rows out.

A job is one attempt of one call at one gateway, named by (connection, handle). Rows come out as arrays that already have
the layout of a STEP frame, because at thousands of sequences a Python object per token would be the whole budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cordee.domain.call import Grammar, Item, Sampling, Task
from cordee.domain.replica import Capacity, EngineFigures, ModelCard
from cordee.engine.constrain import Constraint
from cordee.link.frames import ROW, LogprobRow

ROWS = np.dtype([("handle", "<u4"), ("choice", "<u2"), ("finish", "<u2"), ("index", "<u4"), ("token", "<u4")])
assert ROWS.itemsize == ROW.size, "rows of an engine must be rows of a STEP frame"

Tokens = NDArray[np.int32]
Rows = NDArray[np.void]  # of dtype ROWS
JobName = tuple[int, int]  # (connection, handle)
RowEntry = tuple[int, int, int, int, int, int]  # (connection, handle, choice, finish, index, token)


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt. `outputs[i]` is what choice `choices[i]` has emitted so far; it samples with `seed + choices[i]`.

    `deadline_s` is on this process's monotonic clock. `max_tokens` counts `outputs` too. What was computed of its prompt may be used
    for others of equal `cache_salt` and `adapter`. A task other than generation has no prompt but `items`; choice i is item i.
    `constraints[i]` holds choice `choices[i]` to the grammar, once there is one for each: see constrainer.
    """

    name: JobName
    prompt: Tokens
    choices: tuple[int, ...]
    outputs: tuple[Tokens, ...]
    max_tokens: int
    deadline_s: float
    priority: int
    sampling: Sampling
    tenant: str = ""
    adapter: str = ""
    grammar: Grammar | None = None
    cache_salt: str = ""
    task: Task = Task.GENERATE
    items: tuple[Item, ...] = ()
    constraints: tuple[Constraint, ...] = ()


@dataclass(frozen=True, slots=True)
class Emission:
    """What one step gave. `connections[i]` is where `rows[i]` goes.

    `failures`: jobs that could not be computed and why; `cancelled`: jobs of which nothing more will come. `cached`: how many
    tokens of its prompt a job found computed; `results`: (job, choice, 32-bit floats) for items of a task, whose rows say that they
    are complete.
    """

    connections: NDArray[np.uint32]
    rows: Rows
    logprobs: Sequence[tuple[int, LogprobRow]] = ()
    failures: Sequence[tuple[JobName, str]] = ()
    cancelled: Sequence[JobName] = ()
    cached: Sequence[tuple[JobName, int]] = ()
    results: Sequence[tuple[JobName, int, bytes]] = ()


Deliver = Callable[[Emission], None]
Broken = Callable[[str], None]


class Engine(Protocol):
    """What answers. All methods are called on the event loop's thread, which is also where `deliver` is called."""

    card: ModelCard
    capacity: Capacity

    @property
    def steps(self) -> int:
        """Run so far: while there is work it grows, or the engine is dead."""
        ...

    def figures(self) -> EngineFigures:
        """What it has counted since it began."""
        ...

    def start(self, deliver: Deliver, broken: Broken) -> None:
        """Begin to run. `broken(why)`: the engine cannot go on; the process must end."""
        ...

    def submit(self, job: Job) -> None:
        """Take a job. It is never refused: the link has counted."""
        ...

    def cancel(self, name: JobName) -> None:
        """Forget a job by the next step; an emission says when. A job that is complete is not an error."""
        ...

    def stop(self) -> None:
        """End at once, whatever runs. Returns when nothing runs any more."""
        ...


def emission(
    entries: Sequence[RowEntry],
    logprobs: Sequence[tuple[int, LogprobRow]] = (),
    failures: Sequence[tuple[JobName, str]] = (),
    cancelled: Sequence[JobName] = (),
    cached: Sequence[tuple[JobName, int]] = (),
    results: Sequence[tuple[JobName, int, bytes]] = (),
) -> Emission:
    """An emission of rows that are tuples."""
    connections = np.fromiter((entry[0] for entry in entries), np.uint32, len(entries))
    rows = np.array([entry[1:] for entry in entries], ROWS)
    return Emission(connections, rows, logprobs, failures, cancelled, cached, results)
