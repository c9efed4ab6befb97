"""How this host is: processors, memory and accelerators in percent, sampled once a second in a thread of its own and smoothed.

Whoever asks reads the last word and pays nothing for it. What cannot be found out is UNKNOWN, which is no error: most hosts have no
accelerator, and a driver that hangs holds up the sampling thread and nobody else.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from cordee.domain.replica import UNKNOWN, Signals

log = logging.getLogger(__name__)

PERIOD_S = 1.0  # between samples: the kernel's own counters of processor time tick a hundred times in it
WINDOW_S = 10.0
PERCENT_MAX = 100.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One look, in percent; None where it is not known. `cpu` counts all processors since the look before."""

    cpu: float | None
    memory: float | None
    gpu: float | None


class Host:
    """`signals` after `start` and until `stop`; before the first sample all is UNKNOWN. `window_s`: over which a sample loses all
    but a third of its weight (an exponentially weighted mean). `sample`: where samples come from, called in the thread."""

    def __init__(
        self, window_s: float = WINDOW_S, sample: Callable[[], Sample] | None = None, period_s: float = PERIOD_S
    ) -> None:
        self._sample = sample
        self._period_s = period_s
        self._weight = 1.0 - math.exp(-period_s / window_s)
        self._means: tuple[float | None, ...] = (None, None, None)
        self._signals = Signals()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="host", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Sampling ends; a sample under way is not waited for."""
        self._stopping.set()

    def signals(self) -> Signals:
        """The smoothed state of the host."""
        return self._signals

    def note(self, sample: Sample) -> None:
        """Take a sample into the means."""
        looks = (sample.cpu, sample.memory, sample.gpu)
        self._means = tuple(_smoothed(mean, look, self._weight) for mean, look in zip(self._means, looks, strict=True))
        self._signals = Signals(*map(_percent, self._means))

    def _run(self) -> None:
        with contextlib.ExitStack() as stack:
            sample = self._sample or Sampler(stack).sample
            while not self._stopping.wait(self._period_s):
                try:
                    self.note(sample())
                except (OSError, psutil.Error) as error:
                    log.debug("the host cannot be sampled: %s", error)


class Sampler:
    """Samples of the real host. Whatever has to be closed is left to `stack`."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._gpus = _open_gpus(stack)
        psutil.cpu_percent(None)  # the first call only remembers where the counters stand

    def sample(self) -> Sample:
        return Sample(psutil.cpu_percent(None), psutil.virtual_memory().percent, self._gpus())


def _open_gpus(stack: contextlib.ExitStack) -> Callable[[], float | None]:
    """What the busiest visible accelerator does, if there is one and a library that knows."""
    # The library is only there to be asked about accelerators; a process that never starts a Host never loads it.
    import pynvml  # noqa: PLC0415

    try:
        pynvml.nvmlInit()
        stack.callback(pynvml.nvmlShutdown)
        handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        log.debug("no accelerator is watched: %s", error)
        handles = []

    def busiest() -> float | None:
        found: list[float] = []
        for handle in handles:
            with contextlib.suppress(pynvml.NVMLError):  # one that has fallen off the bus, or does not say
                found.append(float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu))
        return max(found, default=None)

    return busiest


def _smoothed(mean: float | None, look: float | None, weight: float) -> float | None:
    if look is None or not math.isfinite(look):
        return None
    look = min(PERCENT_MAX, max(0.0, look))
    return look if mean is None else mean + weight * (look - mean)


def _percent(mean: float | None) -> int:
    return UNKNOWN if mean is None else round(mean)
