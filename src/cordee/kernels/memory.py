"""How many bytes a model needs, from the header of its file, before anything of it is loaded; and how many this process can have.

The sum is that of llama.cpp's own buffers: the tensors, a cache that is reserved whole at the start, and what one pass through the
layers works on, most of which is the logits of its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cordee.kernels.gguf import Header
from cordee.kernels.settings import ContextSettings

FLOAT_BYTES = 4
CACHE_ITEM_BYTES = 2  # f16 or bf16, which is all that engine.exact chooses between
PASS_WIDTHS = (
    4  # intermediate results of the width of a layer that are alive at once, as llama.cpp's planner of buffers finds
)
SCORED_ROWS_MAX = 64  # rows of a step whose logits are all wanted: engine.loop asks for no more
PROCESS_BYTES = 96 << 20  # interpreter, libraries, and a vocabulary of some fifty thousand words; measured 90 MiB

MEMINFO = Path("/proc/meminfo")
MEMBERSHIP = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")
LIMITS = (  # of the unified hierarchy, and of the one before it: limit, use
    ("", "memory.max", "memory.current"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes: of the weights, of the cache of all sequences, and of everything else that the process works with."""

    weights: int
    cache: int
    work: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.work


def bytes_needed(header: Header, settings: ContextSettings) -> Need:
    """What a worker with this model and these settings comes to use. An estimate from above for ordinary architectures; state
    space and sliding windows need less."""
    weights = sum(tensor.size for tensor in header.tensors)
    cache = settings.sequences * settings.padded_context * cache_bytes_per_token(header)
    width = max(_number(header, "embedding_length"), _number(header, "feed_forward_length"))
    vocabulary = _vocabulary(header)
    one_pass = settings.ubatch * (vocabulary + PASS_WIDTHS * width) * FLOAT_BYTES
    outputs = max(settings.sequences, SCORED_ROWS_MAX) * vocabulary * FLOAT_BYTES
    return Need(weights, cache, one_pass + outputs + PROCESS_BYTES)


def cache_bytes_per_token(header: Header) -> int:
    """Keys and values of one token in all layers; 0 for a model without attention."""
    heads = _number(header, "attention.head_count")
    shared = _number(header, "attention.head_count_kv") or heads
    head = _number(header, "embedding_length") // heads if heads else 0
    keys = _number(header, "attention.key_length") or head
    values = _number(header, "attention.value_length") or head
    return _number(header, "block_count") * shared * (keys + values) * CACHE_ITEM_BYTES


def bytes_left() -> int | None:
    """What this process can still have: what the host has available, or less where a control group sets a limit. None where
    the system does not say."""
    left = [_available(), *_limited()]
    known = [one for one in left if one is not None]
    return min(known, default=None)


def _number(header: Header, key: str) -> int:
    """A count of this model's architecture; 0 where it has none, or one for each layer."""
    value = header.metadata.get(f"{header.metadata.get('general.architecture')}.{key}")
    return int(value) if isinstance(value, int) else 0


def _vocabulary(header: Header) -> int:
    """How many rows the matrix of token embeddings has."""
    return next((tensor.shape[-1] for tensor in header.tensors if tensor.name == "token_embd.weight"), 0)


def _available() -> int | None:
    try:
        lines = MEMINFO.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)


def _limited() -> list[int | None]:
    """What the limits of this process's control groups leave. A limit of an outer group is seen as far as it is mounted."""
    try:
        groups = [line.split(":", 2) for line in MEMBERSHIP.read_text().splitlines()]
    except OSError:
        return []
    found: list[int | None] = []
    for _, controllers, path in (group for group in groups if len(group) == 3):
        for controller, limit, used in LIMITS:
            if controllers.split(",")[0] == controller or (controller and controller in controllers.split(",")):
                below = path.strip("/").split("/")
                for depth in range(len(below) + 1):
                    found.append(_left_of(CGROUPS / controller / "/".join(below[:depth]), limit, used))
    return found


def _left_of(group: Path, limit: str, used: str) -> int | None:
    try:
        return max(0, int((group / limit).read_text()) - int((group / used).read_text()) + _droppable(group))
    except (OSError, ValueError):  # not mounted here, or the word "max"
        return None


def _droppable(group: Path) -> int:
    """Page cache counts as used there, but the kernel gives it up before it kills anybody."""
    stat = dict(line.split(" ", 1) for line in (group / "memory.stat").read_text().splitlines())
    return int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))  # version 1 names the sum of those below
