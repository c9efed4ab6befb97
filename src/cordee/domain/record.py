"""Frozen, slotted data, checked by the type checker and not paid for at run time.

`dataclass(frozen=True)` sets every field through `object.__setattr__`, which makes the records of a call several times
dearer to create than the call's decisions. A record is as frozen to mypy and an ordinary slotted dataclass to Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """Class decorator."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
