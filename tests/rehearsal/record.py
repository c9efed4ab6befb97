"""What a rehearsal measured, kept in bench/results/faults.json beside the machine and the day, if CORDEE_RECORD=1 says so.

Rehearsals run on every machine; only a run that somebody means to publish changes the file. Several may write at once.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.machine import RESULTS, machine, percentile

QUESTION = "What is lost, doubled or late when something fails, row by row of docs/faults.md?"
COMMAND = "CORDEE_RECORD=1 python -m pytest -m rehearsal tests/rehearsal"


def record(row: int, fault: str, asked: str, measured: dict[str, Any], directory: Path = RESULTS) -> None:
    """Writes one figure of row `row`, in place of what the same `fault` had there before."""
    if os.environ.get("CORDEE_RECORD") != "1":
        return
    path = directory / "faults.json"
    entry = {"row": row, "fault": fault, "asked": asked, "date": _today(), "machine": machine(), "measured": measured}
    with _alone(directory):
        known = json.loads(path.read_text())["figures"] if path.exists() else []
        others = [one for one in known if (one["row"], one["fault"]) != (row, fault)]
        figures = sorted([*others, entry], key=lambda one: (one["row"], one["fault"]))
        result = {"question": QUESTION, "date": _today(), "command": COMMAND, "figures": figures}
        new = path.with_suffix(f".{os.getpid()}.tmp")
        new.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
        new.replace(path)


def in_ms(values: list[float]) -> dict[str, float]:
    """Seconds as milliseconds: half, 99 of 100, most."""
    return {
        "p50": round(percentile(values, 0.5) * 1000, 1),
        "p99": round(percentile(values, 0.99) * 1000, 1),
        "max": round(max(values) * 1000, 1),
    }


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
