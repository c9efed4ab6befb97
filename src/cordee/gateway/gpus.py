"""The accelerators of the replicas of this gateway, as their workers say they are: lines of the page at /metrics.

Several replicas may use one accelerator, so that sums over replicas mean nothing; `gpu` is its number on its host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric

from cordee.domain.replica import Gpu

FIGURES: tuple[tuple[str, str, Callable[[Gpu], float | None]], ...] = (
    (
        "cordee_gpu_utilization_ratio",
        "Share of time in which it computed.",
        lambda gpu: gpu.busy / 100.0 if gpu.busy is not None else None,
    ),
    ("cordee_gpu_memory_used_bytes", "Memory in use, by whomever.", lambda gpu: gpu.memory_used_bytes),
    ("cordee_gpu_memory_bytes", "Memory that it has.", lambda gpu: gpu.memory_total_bytes),
    ("cordee_gpu_temperature_celsius", "Temperature of its core.", lambda gpu: gpu.temperature_c),
    ("cordee_gpu_power_watts", "Power it draws.", lambda gpu: gpu.power_w),
)


def collect(gpus: Mapping[str, tuple[Gpu, ...]]) -> Iterable[Metric]:
    """`gpus`: by replica. What an accelerator does not say has no line."""
    for name, text, figure in FIGURES:
        family = GaugeMetricFamily(name, text, labels=["replica", "gpu", "name"])
        for replica, found in gpus.items():
            for gpu in found:
                value = figure(gpu)
                if value is not None:
                    family.add_metric([replica, str(gpu.number), gpu.name], value)
        yield family
