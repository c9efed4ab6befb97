"""How this host is: processors, memory and accelerators in percent, sampled once a second in a thread of its own and smoothed.

Whoever asks reads the last word and pays nothing for it. What cannot be found out is UNKNOWN, which is no error: most hosts have no
accelerator, and a driver that hangs holds up the sampling thread and nobody else.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from cordee.adapters.gpus import Gpus
from cordee.domain.replica import UNKNOWN, Gpu, Signals

log = logging.getLogger(__name__)

PERIOD_S = 1.0  # between samples: the kernel's own counters of processor time tick a hundred times in it
WINDOW_S = 10.0
PERCENT_MAX = 100.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One look, in percent; None where it is not known. `cpu` counts all processors since the look before, `gpu` is the busiest of
    `gpus`: the accelerators that this process may use."""

    cpu: float | None
    memory: float | None
    gpu: float | None
    gpus: tuple[Gpu, ...] = ()


class Host:
    """`signals` and `gpus` after `start` and until `stop`; before the first sample all is UNKNOWN. `window_s`: over which a sample
    loses all but a third of its weight (an exponentially weighted mean). `sample`: where samples come from, called in the thread."""

    def __init__(
        self, window_s: float = WINDOW_S, sample: Callable[[], Sample] | None = None, period_s: float = PERIOD_S
    ) -> None:
        self._sample = sample
        self._period_s = period_s
        self._weight = 1.0 - math.exp(-period_s / window_s)
        self._means: tuple[float | None, ...] = (None, None, None)
        self._signals = Signals()
        self._gpus: tuple[Gpu, ...] = ()
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

    def gpus(self) -> tuple[Gpu, ...]:
        """The accelerators of this process as they were last seen; none before the first sample."""
        return self._gpus

    def note(self, sample: Sample) -> None:
        """Take a sample into the means."""
        self._gpus = sample.gpus
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
        self._gpus = Gpus(stack, os.environ)
        psutil.cpu_percent(None)  # the first call only remembers where the counters stand

    def sample(self) -> Sample:
        gpus = self._gpus.look()
        busiest = max((gpu.busy for gpu in gpus if gpu.busy is not None), default=None)
        return Sample(psutil.cpu_percent(None), psutil.virtual_memory().percent, busiest, gpus)


def _smoothed(mean: float | None, look: float | None, weight: float) -> float | None:
    if look is None or not math.isfinite(look):
        return None
    look = min(PERCENT_MAX, max(0.0, look))
    return look if mean is None else mean + weight * (look - mean)


def _percent(mean: float | None) -> int:
    return UNKNOWN if mean is None else round(mean)
