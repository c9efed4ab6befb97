"""A guest's own figures, read from its page of metrics in Prometheus's text format: how much it has to do, and how much fits.

vLLM: https://docs.vllm.ai/en/latest/usage/metrics.html. SGLang: https://docs.sglang.io/references/production_metrics.html, with
--enable-metrics. Of a server that is several engines (data parallel) the figures are added up. Names that a release does not have
count as zero; a page that has none of them is no page of this server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_SAMPLE = re.compile(rb"^([a-z]+:[a-z_]+)(\{.*\})? ([0-9.eE+-]+|NaN)(?: \d+)?\r?$", re.MULTILINE)
_LABEL = re.compile(rb'(\w+)="((?:[^"\\]|\\.)*)"')
STEPS = 1 << 32


class FiguresError(Exception):
    """The page is not what was expected; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Figures:
    """`running` and `waiting` sequences, `tokens` of cache in use of `tokens_max` (0: not known). `steps`: tokens computed in its
    life, modulo 2³²."""

    running: int
    waiting: int
    tokens: int
    tokens_max: int
    steps: int


@dataclass(frozen=True, slots=True)
class Names:
    """What one kind of server calls them. `usage` is a share from 0 to 1; `size` a number of tokens. Where a server tells its size
    only as a label of an information, that stands in `size_info` and `size_label`."""

    running: bytes
    waiting: bytes
    usage: bytes
    prompt: bytes
    generated: bytes
    size: bytes = b""
    size_info: bytes = b""
    size_label: bytes = b""


NAMES: Mapping[str, Names] = MappingProxyType(
    {
        "vllm": Names(
            b"vllm:num_requests_running", b"vllm:num_requests_waiting", b"vllm:kv_cache_usage_perc",
            b"vllm:prompt_tokens_total", b"vllm:generation_tokens_total",
            size_info=b"vllm:cache_config_info", size_label=b"kv_cache_size_tokens",
        ),
        "sglang": Names(
            b"sglang:num_running_reqs", b"sglang:num_queue_reqs", b"sglang:token_usage",
            b"sglang:prompt_tokens_total", b"sglang:generation_tokens_total", size=b"sglang:max_total_num_tokens",
        ),
    }
)  # fmt: skip


def read(page: bytes, names: Names) -> Figures:
    """Raises FiguresError."""
    wanted = {names.running, names.waiting, names.usage, names.prompt, names.generated, names.size} - {b""}
    sums = dict.fromkeys(wanted, 0.0)
    counts = dict.fromkeys(wanted, 0)
    size = 0.0
    for name, labels, value in _SAMPLE.findall(page):
        if name in sums and value != b"NaN":
            sums[name] += float(value)
            counts[name] += 1
        elif name == names.size_info:
            size += _size(names, labels)
    if not counts[names.running]:
        raise FiguresError(f"its metrics hold no {names.running.decode()}")
    size = size or sums.get(names.size, 0.0)
    usage = sums[names.usage] / max(1, counts[names.usage])  # of the mean engine
    steps = int(sums[names.prompt] + sums[names.generated]) % STEPS
    return Figures(int(sums[names.running]), int(sums[names.waiting]), round(usage * size), int(size), steps)


def _size(names: Names, labels: bytes) -> float:
    """Tokens of cache of one engine, from the labels of its information."""
    found = dict(_LABEL.findall(labels))
    if found.get(names.size_label, b"").isdigit():
        return float(found[names.size_label])
    blocks, block = found.get(b"num_gpu_blocks", b""), found.get(b"block_size", b"")  # releases before 0.20
    return float(blocks) * float(block) if blocks.isdigit() and block.isdigit() else 0.0
