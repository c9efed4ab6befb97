"""The limits in memory do what every Limits does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cordee.memory.limits import MemoryLimits
from tests.contracts.limits import Contract


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> MemoryLimits:
    return MemoryLimits(lambda: clock.now_s)


@pytest.fixture
def pass_time(clock: Clock) -> Callable[[float], None]:
    return clock.pass_time


class TestMemoryLimits(Contract):
    pass
