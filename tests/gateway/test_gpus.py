from prometheus_client import CollectorRegistry, generate_latest

from cordee.domain.replica import Gpu
from cordee.gateway import gpus


def page(found: dict[str, tuple[Gpu, ...]]) -> list[str]:
    registry = CollectorRegistry(auto_describe=False)

    class Collector:
        def collect(self):
            return gpus.collect(found)

    registry.register(Collector())
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_every_figure_of_every_accelerator_has_its_line():
    lines = page({"worker-1": (Gpu(3, "H200", 50.0, 10, 20, 41.0, 300.5),)})
    labels = '{gpu="3",name="H200",replica="worker-1"}'
    assert lines == [
        f"cordee_gpu_utilization_ratio{labels} 0.5",
        f"cordee_gpu_memory_used_bytes{labels} 10.0",
        f"cordee_gpu_memory_bytes{labels} 20.0",
        f"cordee_gpu_temperature_celsius{labels} 41.0",
        f"cordee_gpu_power_watts{labels} 300.5",
    ]


def test_what_is_not_known_has_no_line_and_no_accelerators_have_none():
    assert page({"worker-1": (Gpu(0, "x", temperature_c=1.0),)}) == [
        'cordee_gpu_temperature_celsius{gpu="0",name="x",replica="worker-1"} 1.0'
    ]
    assert page({}) == page({"worker-1": ()}) == []
