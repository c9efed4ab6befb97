"""Answers that have to be of a shape: what a schema, an expression or a grammar may cost before a worker hears of it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from cordee.config.sections.base import Count, Positive, Section


class Grammars(Section, frozen=True):
    """Schemas and other grammars of `response_format`. Each is tried out in a process beside the gateway. See docs/structured.md."""

    bytes_max: Annotated[int, Meta(ge=64, le=4 << 20)] = 64 * 1024  # of one
    compute_s: Annotated[float, Meta(ge=0.01, le=60)] = 1.0  # of a processor, to compile one; then it is refused
    memory_bytes_max: Annotated[int, Meta(ge=64 << 20, le=1 << 36)] = (
        512 * 1024 * 1024
    )  # of the process that compiles them
    idle_s: Positive = 300.0  # without a new one, then that process ends; it holds some 20 MiB
    waiting_max: Count = 64  # that wait to be compiled; more are refused
    remembered_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 4096  # verdicts that a gateway remembers
