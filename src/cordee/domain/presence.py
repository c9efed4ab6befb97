"""Whether a model is there: in the memory of somebody who can answer for it."""

from __future__ import annotations

from enum import Enum

from cordee.domain.record import record


class Presence(Enum):
    """The states of a model, in the words that people and programs are shown."""

    LOADED = "loaded"
    LOADING = "loading"  # its workers are being started, or started again
    UNLOADING = "unloading"
    ABSENT = "not loaded"
    FAILED = "failed"


@record
class Standing:
    """How a model stands. `why`: of one that has failed, or that could not be loaded just now."""

    presence: Presence
    why: str = ""
