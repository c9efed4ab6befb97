"""Further models beside the first one: which, how many workers of each, and whether they are always there. See docs/models.md."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from cordee.config.sections.base import Positive, Section

Inherited = Annotated[int, Meta(ge=0, le=1_048_576)]  # 0: as [engine] says


class Serve(Section, frozen=True):
    """A model beside the first one, as `[[serve]]`; its workers are processes of their own. See docs/models.md."""

    model: Annotated[str, Meta(min_length=1, max_length=4096)]  # as the setting `model`
    name: Annotated[str, Meta(max_length=256)] = ""  # what clients call it; "": its own, of the catalogue or the file
    kind: Literal["llama", "vllm", "sglang"] = (
        "llama"  # what runs it: the built-in engine, or a guest, see docs/servers.md
    )
    load: Literal["pinned", "demand"] = "pinned"  # demand: when a call asks for it, until nobody has for idle_s
    idle_s: Positive = 300.0  # demand: how long nobody must have asked for it
    servers: Annotated[int, Meta(ge=0, le=64)] = 0  # that have it, the first ones; 0: all
    per_server: Annotated[int, Meta(ge=1, le=64)] = 1  # workers of it on each of them
    slots: Annotated[int, Meta(ge=0, le=256)] = 0  # 0, here and below: as [engine] says (an oracle: as [oracle])
    context: Inherited = 0
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    batch: Annotated[int, Meta(ge=0, le=16384)] = 0
    ubatch: Annotated[int, Meta(ge=0, le=4096)] = 0
    weights: Literal["", "auto", "file", "q8_0"] = ""  # "": as [engine] says
    # Of guests only: what follows is for kind = "vllm" and kind = "sglang".
    command: Annotated[str, Meta(max_length=4096)] = ""  # its program; "": vllm, or sglang, where PATH finds it
    gpus: tuple[
        Annotated[int, Meta(ge=0, le=1023)], ...
    ] = ()  # of this host, dealt out among its processes; none: all, or no GPU
    tensor_parallel: Annotated[int, Meta(ge=1, le=1024)] = 1  # GPUs that share each layer
    data_parallel: Annotated[int, Meta(ge=1, le=1024)] = 1  # copies of the model within one process
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    memory_share: Annotated[float, Meta(ge=0, le=1)] = 0.0  # of each GPU that it takes; 0: as its program decides
    arguments: tuple[
        Annotated[str, Meta(min_length=1, max_length=1024)], ...
    ] = ()  # further ones: those that docs/servers.md lists


class Adapter(Section, frozen=True):
    """A LoRA adapter, as `[adapters.NAME]`: clients ask for it as `MODEL:NAME`. See docs/engine.md."""

    path: Annotated[str, Meta(min_length=1, max_length=4096)]  # of its .gguf file
    base: Annotated[str, Meta(min_length=1, max_length=256)]  # the model that it is laid over, as clients call that
    scale: Annotated[float, Meta(gt=0, le=100)] = 1.0  # times its own strength


class Guests(Section, frozen=True):
    """How servers of other makes are looked after that run as processes of this installation. See docs/servers.md."""

    start_s: Positive = 1800.0  # until one has loaded its model and answered; then it is ended and tried again
    look_s: Annotated[float, Meta(ge=0.05, le=60)] = 0.5  # between two looks at its figures
    canary_s: Annotated[float, Meta(ge=0, le=86_400)] = (
        15.0  # without a sign of progress, then it is asked for one token; 0: never
    )
    answer_s: Positive = (
        10.0  # for that answer; then it gets no new calls, and after as long again it is ended and started anew
    )
