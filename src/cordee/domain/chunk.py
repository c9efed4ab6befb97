"""A piece of an answer: token ids with their position, never text without one."""

from __future__ import annotations

from enum import IntEnum

from cordee.domain.record import record


class Finish(IntEnum):
    """Why a choice ended, as a worker says it. NONE: it goes on."""

    NONE = 0
    STOP = 1  # the model's own end-of-generation token; that token carries no text
    LENGTH = 2  # max_tokens were emitted, or the context is full
    CANCELLED = 3  # somebody asked the worker to stop
    FAILED = 4  # the worker could not compute this choice; the reason comes in a Refuse frame
    EXPIRED = 5  # the deadline carried with the work passed


@record
class TokenLogprobs:
    """Natural-log probabilities at one position under the model's own distribution (before temperature and filters).

    `alternatives` are (token id, logprob), likeliest first.
    """

    chosen: float
    alternatives: tuple[tuple[int, float], ...] = ()
