"""The accelerators that this process may use, as NVML sees them: how busy, how full, how hot, at what power.

Which ones that are is CUDA's own rule (CUDA C++ programming guide, "CUDA environment variables"): all, or those that
CUDA_VISIBLE_DEVICES names, by number in the order of the bus or by UUID, up to the first name that is none. A host without the
driver has none, which is no error; what one of them does not say is None.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, cast

from cordee.domain.replica import Gpu

log = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"
MILLIWATTS = 1000.0
T = TypeVar("T")


class Nvml(Protocol):
    """The part of NVML that is used, by the names of NVIDIA's own bindings (nvidia-ml-py)."""

    NVMLError: type[Exception]
    NVML_TEMPERATURE_GPU: int

    def nvmlInit(self) -> None: ...
    def nvmlShutdown(self) -> None: ...
    def nvmlDeviceGetCount(self) -> int: ...
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...
    def nvmlDeviceGetUUID(self, handle: Any) -> str: ...
    def nvmlDeviceGetName(self, handle: Any) -> str: ...
    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any: ...
    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any: ...
    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int) -> int: ...
    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int: ...


def driver() -> Nvml:
    """NVIDIA's bindings. Raises ImportError where they are not installed."""
    # Only whoever asks about accelerators loads them.
    import pynvml  # noqa: PLC0415

    return cast("Nvml", pynvml)


class Gpus:
    """Those that `environ` lets this process use. Whatever has to be closed is left to `stack`."""

    def __init__(self, stack: contextlib.ExitStack, environ: Mapping[str, str], nvml: Nvml | None = None) -> None:
        self._nvml = nvml = nvml or driver()
        self._handles: list[tuple[int, str, Any]] = []
        try:
            nvml.nvmlInit()
            stack.callback(nvml.nvmlShutdown)
            handles = [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
            uuids = [nvml.nvmlDeviceGetUUID(handle) for handle in handles]
            numbers = visible(environ.get(VISIBLE), uuids)
            self._handles = [(number, nvml.nvmlDeviceGetName(handles[number]), handles[number]) for number in numbers]
        except nvml.NVMLError as error:
            log.debug("no accelerator is watched: %s", error)

    def look(self) -> tuple[Gpu, ...]:
        """How each of them is now."""
        return tuple(self._one(number, name, handle) for number, name, handle in self._handles)

    def _one(self, number: int, name: str, handle: Any) -> Gpu:
        nvml = self._nvml
        rates = self._said(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        memory = self._said(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        power = self._said(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        return Gpu(
            number,
            name,
            float(rates.gpu) if rates is not None else None,
            int(memory.used) if memory is not None else None,
            int(memory.total) if memory is not None else None,
            self._said(lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))),
            power / MILLIWATTS if power is not None else None,
        )

    def _said(self, ask: Callable[[], T]) -> T | None:
        try:
            return ask()
        except self._nvml.NVMLError:  # one that has fallen off the bus, or has no such sensor
            return None


def visible(names: str | None, uuids: list[str]) -> list[int]:
    """The numbers of the accelerators that a process with CUDA_VISIBLE_DEVICES=`names` (None: not set) may use. A UUID may be
    shortened as long as it is one's alone; a part of an accelerator (MIG) counts as none, for it has no figures of its own."""
    if names is None:
        return list(range(len(uuids)))
    found: list[int] = []
    for name in map(str.strip, names.split(",")):
        if name.isascii() and name.isdigit():
            numbers = [int(name)] if int(name) < len(uuids) else []
        else:
            numbers = [number for number, uuid in enumerate(uuids) if name and uuid.startswith(name)]
        if len(numbers) != 1:
            break  # CUDA sees none behind it either
        found += [number for number in numbers if number not in found]
    return found


def present() -> int:
    """How many accelerators this host has, whoever may use them; 0 without a driver."""
    with contextlib.ExitStack() as stack:
        return len(Gpus(stack, {}).look())
