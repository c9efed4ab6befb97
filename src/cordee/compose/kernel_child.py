"""What is done with model files beside any platform, in a process of its own: a file that makes the kernels end their process ends
only that one.

The child gets its task as one argument and writes one JSON object a line: how far it is, what it found, or why it failed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

from cordee.adapters import rights
from cordee.compose.trial import measure
from cordee.kernels import perplexity
from cordee.kernels.library import KernelsError, load
from cordee.kernels.llama import Model
from cordee.kernels.quantize import KINDS, Job, quantize
from cordee.policy.tuning import Phase, Trial

TEXT = Path(perplexity.__file__).with_name("perplexity.txt")
WORDS_MAX = 2000  # characters of what a child that crashed has said
Progress = Callable[[int, int], None]  # how much of how much


@dataclass(frozen=True, slots=True)
class Task:
    """`what`: "quantize", "sizes", "surprises" or "trials". `ftype`, `target` and `requantize` are for the first. `trials` are tried for
    `seconds` each, on the processors `cores`; `phase`, `exact` and `stretch_max` say how."""

    what: str
    library: str
    source: str
    target: str = ""
    ftype: int = 0
    requantize: bool = False
    threads: int = 0
    trials: tuple[tuple[int, ...], ...] = ()
    seconds: float = 0.0
    cores: tuple[int, ...] = ()
    exact: bool = True
    phase: str = ""
    stretch_max: float = 0.0


def run(task: Task, progress: Progress) -> list[list[float]]:
    """What the child found, row by row. Raises KernelsError."""
    argv = (sys.executable, "-P", "-m", "cordee.compose.kernel_child", json.dumps(asdict(task)))
    found: list[list[float]] = []
    failure = ""
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        try:
            for line in child.stdout:
                told = json.loads(line)
                if "at" in told:
                    progress(*told["at"])
                elif "row" in told:
                    found.append(told["row"])
                else:
                    failure = told["failure"]
        except BaseException:
            child.kill()
            raise
        words = child.stderr.read()[-WORDS_MAX:].strip()
    if failure:
        raise KernelsError(failure)
    if child.returncode:
        how = (
            f"by {signal.Signals(-child.returncode).name}"
            if child.returncode < 0
            else f"with status {child.returncode}"
        )
        raise KernelsError(f"{task.source}: the kernels ended their process {how}; {words or 'they said nothing'}")
    return found


def main(task: Task) -> None:
    """In the child."""
    try:
        for row in _rows(task):
            _say({"row": row})
    except (KernelsError, OSError) as error:
        _say({"failure": str(error)})


def _rows(task: Task) -> Iterator[list[float]]:
    source = Path(task.source)
    if task.what != "quantize":
        rights.give_up({Path("/dev"): rights.DEVICES})
    library = load(Path(task.library))
    match task.what:
        case "quantize":
            job = Job(source, Path(task.target), task.ftype, task.threads, task.requantize)
            yield [*quantize(library, job, _tell)]
        case "sizes":
            for kind in KINDS:
                job = Job(source, source.with_name("unused"), kind.ftype, requantize=True, dry=True)
                yield [kind.ftype, *quantize(library, job, lambda done, of: None)]
        case "surprises":
            model = Model(library, source)
            # One processor is left to whoever else wants it: threads that wait for a slow one spin, and everything crawls.
            threads = task.threads or max(1, len(os.sched_getaffinity(0)) - 1)
            yield perplexity.surprises(model, TEXT.read_bytes(), threads, _tell).tolist()
        case "trials":
            os.sched_setaffinity(0, task.cores)
            model = Model(library, source)
            phase = Phase(task.phase)
            for done, (threads, ubatch, slots, prefill, neighbour) in enumerate(task.trials, start=1):
                trial = Trial(threads, ubatch, slots, prefill, bool(neighbour))
                yield [*astuple(measure(model, trial, phase, task.seconds, task.stretch_max, exact=task.exact))]
                _tell(done, len(task.trials))
        case _:
            raise ValueError(f"there is no task {task.what!r}")


def _tell(done: int, of: int) -> None:
    _say({"at": (done, of)})


def _say(what: dict[str, object]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main(Task(**json.loads(sys.argv[1])))
