"""Decides which other model answers when the one that was asked cannot: the next of its chain that the configuration names for the
cause and that can do what the request needs, each at most once.

What is the caller's fault has no cause here: no other model is asked to answer a mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum

from cordee.domain.outcome import Refusal, Why
from cordee.policy.after import Stop


class Cause(Enum):
    """Why another model is to answer."""

    FAILURE = "failure"
    OVERLOAD = "overload"
    CONTEXT = "context"


@dataclass(frozen=True, slots=True)
class Step:
    """One link of a chain."""

    model: str
    on: frozenset[Cause]


@dataclass(frozen=True, slots=True)
class Can:
    """What a model can do: go on with an assistant's turn, call tools, answer in a given schema, and read so many tokens (0: nobody
    knows, so it is tried)."""

    continues: bool = True
    tools: bool = True
    schema: bool = True
    context: int = 0


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request needs of whoever answers it. `tokens`: of its prompt, estimated."""

    continues: bool = False
    tools: bool = False
    schema: bool = False
    tokens: int = 0


OVERLOADED = frozenset({Why.QUEUE_FULL, Why.QUEUE_TIMEOUT, Why.NO_REPLICA})
FAILED = frozenset({Why.ATTEMPTS, Why.REPLICA})


def cause_of(result: Refusal | Stop) -> Cause | None:
    """None: another model would not change it."""
    match result:
        case Refusal():
            return Cause.OVERLOAD if result.why in OVERLOADED else None
        case Stop():
            return Cause.FAILURE if result.why in FAILED and not result.fault else None


def can_do(can: Can, needs: Needs) -> bool:
    return (
        (can.continues or not needs.continues)
        and (can.tools or not needs.tools)
        and (can.schema or not needs.schema)
        and (not can.context or needs.tokens <= can.context)
    )


class Fallbacks:
    """The chains of all models, by the model that was asked."""

    __slots__ = ("chains",)

    def __init__(self, chains: Mapping[str, tuple[Step, ...]]) -> None:
        self.chains = chains

    def next(
        self, asked: str, tried: Collection[str], cause: Cause, needs: Needs, can: Callable[[str], Can | None]
    ) -> str | None:
        """The model to ask now. `can`: what a model can do here; None: nobody serves it."""
        for step in self.chains.get(asked, ()):
            if cause in step.on and step.model not in tried:
                able = can(step.model)
                if able is not None and can_do(able, needs):
                    return step.model
        return None
