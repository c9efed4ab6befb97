"""Accelerators as NVML tells of them, played by a double with the names of NVIDIA's own bindings."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.adapters.gpus import Gpus, Nvml, visible
from cordee.domain.replica import Gpu

UUIDS = ["GPU-aaaa-1", "GPU-aabb-2", "GPU-cccc-3"]


class DriverError(Exception):
    pass


@dataclass
class Driver:
    """Port Nvml. `mute`: what the accelerator of a number does not say."""

    count: int = 2
    mute: dict[int, set[str]] = field(default_factory=dict)
    is_there: bool = True
    ended: int = 0
    NVMLError: type[Exception] = DriverError
    NVML_TEMPERATURE_GPU: int = 0

    def nvmlInit(self) -> None:
        if not self.is_there:
            raise DriverError("NVML Shared Library Not Found")

    def nvmlShutdown(self) -> None:
        self.ended += 1

    def nvmlDeviceGetCount(self) -> int:
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        return index

    def nvmlDeviceGetUUID(self, handle: Any) -> str:
        return str(UUIDS[handle])

    def nvmlDeviceGetName(self, handle: Any) -> str:
        return f"card {handle}"

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:
        return self._said(handle, "busy", SimpleNamespace(gpu=10 * (handle + 1), memory=1))

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:
        return self._said(handle, "memory", SimpleNamespace(used=1 << 30, total=4 << 30))

    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int) -> int:
        return int(self._said(handle, "temperature", 50 + sensor))

    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int:
        return int(self._said(handle, "power", 123_456))

    def _said(self, handle: int, what: str, value: Any) -> Any:
        if what in self.mute.get(handle, ()):
            raise DriverError("Not Supported")
        return value


def look(driver: Driver, environ: dict[str, str] | None = None) -> tuple[Gpu, ...]:
    with contextlib.ExitStack() as stack:
        return Gpus(stack, environ or {}, driver).look()


def test_all_that_an_accelerator_says_is_told_and_the_driver_is_let_go():
    driver = Driver()
    assert look(driver) == (
        Gpu(0, "card 0", 10.0, 1 << 30, 4 << 30, 50.0, 123.456),
        Gpu(1, "card 1", 20.0, 1 << 30, 4 << 30, 50.0, 123.456),
    )
    assert driver.ended == 1


def test_only_those_are_told_that_the_process_may_use():
    assert [gpu.number for gpu in look(Driver(count=3), {"CUDA_VISIBLE_DEVICES": "2,0"})] == [2, 0]


def test_what_one_does_not_say_is_unknown_and_the_others_say_it():
    first, second = look(Driver(mute={0: {"power", "busy", "memory", "temperature"}}))
    assert first == Gpu(0, "card 0")
    assert second.power_w == 123.456


def test_without_a_driver_there_are_none_and_nothing_is_wrong():
    assert look(Driver(is_there=False)) == ()


def test_the_real_bindings_have_every_name_that_is_used():
    for name in [*Nvml.__annotations__, *(name for name in vars(Nvml) if name.startswith("nvml"))]:
        assert hasattr(pynvml, name), name


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (None, [0, 1, 2]), ("", []), ("1", [1]), ("2, 0", [2, 0]), ("0,0,1", [0, 1]), ("0,7,1", [0]), ("-1", []), ("NoDevFiles", []),
        ("GPU-cccc", [2]), ("GPU-aa", []), ("GPU-aaaa-1,2", [0, 2]), ("MIG-5f", []),
    ],
)  # fmt: skip
def test_cudas_own_rule_says_which_are_visible(names, numbers):
    assert visible(names, UUIDS) == numbers


@given(st.text(st.sampled_from("0123,GPU-abc "), max_size=12))
def test_whatever_stands_there_names_each_at_most_once_and_only_what_exists(names):
    numbers = visible(names, UUIDS)
    assert len(set(numbers)) == len(numbers)
    assert set(numbers) <= {0, 1, 2}
