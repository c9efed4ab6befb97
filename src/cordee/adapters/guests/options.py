"""Which further arguments a guest may be given: those that tune how it computes.

An argument that is not on its list is refused. What a guest listens on, its key and its name are ours to say; and nothing may make
it load code that lies in a model or beside it (--trust-remote-code, plugins, middleware, worker classes), open a further address, or
write down what callers ask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import MappingProxyType

VLLM = frozenset(
    {
        "all2all-backend", "async-scheduling", "attention-backend", "block-size", "compilation-config", "config-format",
        "cpu-offload-gb", "cudagraph-capture-sizes", "disable-cascade-attn", "disable-custom-all-reduce", "disable-sliding-window",
        "enable-auto-tool-choice", "enable-chunked-prefill", "enable-dbo", "enable-eplb", "enable-expert-parallel", "enable-prefix-caching",
        "enforce-eager", "generation-config", "kv-cache-dtype", "kv-cache-memory-bytes", "kv-offloading-backend", "kv-offloading-size",
        "language-model-only", "limit-mm-per-prompt", "load-format", "long-prefill-token-threshold", "max-logprobs",
        "max-num-batched-tokens", "max-num-queued-reqs", "max-seq-len-to-capture", "mm-processor-cache-gb", "model-impl", "moe-backend",
        "num-gpu-blocks-override", "optimization-level", "performance-mode", "prefix-caching-hash-algo",
        "quantization", "reasoning-parser", "revision", "safetensors-load-strategy", "scheduling-policy", "seed", "speculative-config",
        "stream-interval", "swap-space", "tokenizer-mode", "tokenizer-revision", "tool-call-parser",
    }
)  # fmt: skip
SGLANG = frozenset(
    {
        "attention-backend", "chunked-prefill-size", "cpu-offload-gb", "cuda-graph-max-bs", "decode-attention-backend",
        "device", "disable-chunked-prefix-cache", "disable-cuda-graph", "disable-custom-all-reduce", "disable-overlap-schedule",
        "disable-radix-cache", "enable-dp-attention", "enable-ep-moe", "enable-metrics-for-all-schedulers", "enable-mixed-chunk",
        "enable-p2p-check", "enable-torch-compile", "ep-size", "grammar-backend", "kv-cache-dtype", "load-format", "max-prefill-tokens",
        "max-total-tokens", "moe-a2a-backend", "moe-runner-backend", "page-size", "prefill-attention-backend", "quantization",
        "random-seed", "reasoning-parser", "revision", "sampling-backend", "schedule-conservativeness", "schedule-policy",
        "skip-server-warmup", "speculative-algorithm", "speculative-draft-model-path", "speculative-eagle-topk",
        "speculative-num-draft-tokens", "speculative-num-steps", "stream-interval", "tokenizer-mode", "tool-call-parser", "torchao-config",
        "watchdog-timeout",
    }
)  # fmt: skip
ALLOWED = MappingProxyType({"vllm": VLLM, "sglang": SGLANG})
ELSEWHERE = MappingProxyType(  # what has a setting of its own
    {
        "tensor-parallel-size": "tensor_parallel", "tp-size": "tensor_parallel", "tp": "tensor_parallel",
        "data-parallel-size": "data_parallel", "dp-size": "data_parallel", "dp": "data_parallel", "dtype": "dtype",
        "max-model-len": "context", "max-num-seqs": "slots", "max-running-requests": "slots", "served-model-name": "name",
        "gpu-memory-utilization": "memory_share", "mem-fraction-static": "memory_share", "context-length": "context",
        "model": "model", "model-path": "model",
    }
)  # fmt: skip


def refused(kind: str, arguments: Sequence[str]) -> Iterator[str]:
    """What is wrong with each argument that a guest of this kind may not be given."""
    allowed = ALLOWED[kind]
    for number, argument in enumerate(arguments):
        if not argument.startswith("-"):
            if number == 0 or "=" in arguments[number - 1] or not arguments[number - 1].startswith("--"):
                yield f"{argument!r} is the value of no option: write --NAME=VALUE, or the name before it"
            continue
        name = argument.removeprefix("--").partition("=")[0].replace("_", "-")
        plain = name.removeprefix("no-")
        if not argument.startswith("--"):
            yield f"{argument!r} is a short name: write the long one, --NAME"
        elif name in ELSEWHERE:
            yield f"{argument!r} has a setting of its own: {ELSEWHERE[name]}"
        elif plain not in allowed:
            yield f"{argument!r} is none of those that may be given to {kind}: see docs/servers.md for them"
