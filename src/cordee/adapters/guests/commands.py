"""How each kind of guest is started: its command line, its environment, and the file it reads, if any.

A pure function of what it is told. The key never stands on a command line, where every user of the host could read it: vLLM takes it
from its environment (VLLM_API_KEY), SGLang from a file that only its owner may read (--config). Both listen on the loopback address.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from cordee.config.sections.models import Serve

LOOPBACK = "127.0.0.1"
PROGRAMS = {"vllm": "vllm", "sglang": "python3"}  # sglang: the interpreter that has it
# What of our environment a guest needs: where its libraries, caches and devices are. Its own variables go along but for those that
# open it up: development endpoints, pickles from the network, a key of somebody else's.
PASSED_ON = frozenset(
    {"PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER", "SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH", "LD_PRELOAD"}
)
PASSED_ON_PREFIXES = (
    "LC_", "XDG_", "HF_", "HUGGING_FACE_", "TRANSFORMERS_", "VLLM_", "SGLANG_", "SGL_", "CUDA_", "NVIDIA_", "NCCL_", "TORCH", "PYTORCH_",
    "TRITON_", "FLASHINFER_", "OMP_", "MKL_", "KMP_", "GLOO_", "ROCM_", "HIP_", "RAY_",
)  # fmt: skip
HELD_BACK = frozenset(
    {
        "VLLM_API_KEY",
        "VLLM_SERVER_DEV_MODE",
        "VLLM_ALLOW_INSECURE_SERIALIZATION",
        "VLLM_PLUGINS",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
    }
)
GIVEN = {
    "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",  # nothing is told to anybody outside
    "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1",  # what lies in the working directory is not imported; its log is written at once
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Start:
    """What to start: `argv[0]` is the program's absolute path. `file`: what is to stand in the file whose path is in `argv`."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)  # it holds the key
    file: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Place:
    """Where and as what it runs. `file`: a path that it may read its settings from. `gpus` of the host, none: whatever there is."""

    program: str
    name: str
    port: int
    key: str = field(repr=False)
    file: str
    gpus: tuple[int, ...]
    slots: int


def passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """What of the environment a guest may know."""
    return {
        name: value
        for name, value in environ.items()
        if (name in PASSED_ON or name.startswith(PASSED_ON_PREFIXES)) and name not in HELD_BACK
    }


def start(entry: Serve, place: Place, environ: Mapping[str, str]) -> Start:
    """For a guest of the entry's kind."""
    environment = {**passed_on(environ), **GIVEN}
    if place.gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, place.gpus))
        environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the order in which NVML, and so the configuration, counts
    return _vllm(entry, place, environment) if entry.kind == "vllm" else _sglang(entry, place, environment)


def _vllm(entry: Serve, place: Place, environment: dict[str, str]) -> Start:
    argv = [place.program, "serve", entry.model, "--host", LOOPBACK, "--port", str(place.port)]
    argv += ["--served-model-name", place.name, "--max-num-seqs", str(place.slots), "--dtype", entry.dtype]
    argv += ["--tensor-parallel-size", str(entry.tensor_parallel), "--data-parallel-size", str(entry.data_parallel)]
    argv += ["--disable-uvicorn-access-log"]  # our own questions, and what the gateways know
    argv += ["--max-model-len", str(entry.context)] if entry.context else []
    argv += ["--gpu-memory-utilization", f"{entry.memory_share:g}"] if entry.memory_share else []
    return Start((*argv, *entry.arguments), {**environment, "VLLM_API_KEY": place.key})


def _sglang(entry: Serve, place: Place, environment: dict[str, str]) -> Start:
    """Its file is YAML, of which JSON strings are a part."""
    argv = [place.program, "-m", "sglang.launch_server", "--config", place.file]
    argv += ["--model-path", entry.model, "--host", LOOPBACK, "--port", str(place.port)]
    argv += ["--served-model-name", place.name, "--max-running-requests", str(place.slots), "--dtype", entry.dtype]
    argv += ["--tp-size", str(entry.tensor_parallel), "--dp-size", str(entry.data_parallel)]
    argv += ["--enable-metrics", "--log-level-http", "warning"]
    argv += ["--context-length", str(entry.context)] if entry.context else []
    argv += ["--mem-fraction-static", f"{entry.memory_share:g}"] if entry.memory_share else []
    return Start((*argv, *entry.arguments), environment, f"api-key: {json.dumps(place.key)}\n")
