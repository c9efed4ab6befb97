"""What is said over the control socket: reports from processes, the status of all, and the requests of commands. One JSON line each.

The structs are the contract of `cordee status --json`: fields may be added, never renamed.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from cordee.domain.presence import Presence

State = Literal["starting", "ready", "silent", "draining", "restarting", "failed", "stopped"]
"""`silent`: alive, but it has not reported for a while (a stopped or overwhelmed process)."""

Role = Literal["supervisor", "edge", "web", "mobile", "worker", "services", "store"]
Overall = Literal["starting", "ready", "degraded", "stopping"]

LINE_BYTES_MAX = 64 * 1024  # the status of some hundred processes; anything longer is not one of ours
Word = Annotated[str, Meta(max_length=512)]


class GpuStatus(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An accelerator that a worker uses; see domain.replica.Gpu."""

    number: int
    name: Word = ""
    busy: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_c: float | None = None
    power_w: float | None = None


class ProcessStatus(Struct, frozen=True, kw_only=True):
    """One process. `server` 0: it belongs to no server (edge, supervisor). `pid` 0: it does not run at the moment. `missing`: which
    services a services process cannot offer, and why."""

    server: int
    role: Role
    name: str
    pid: int
    address: str
    state: State
    model: str = ""
    load: dict[str, float] = {}
    processor: str = ""
    restarts: int = 0
    uptime_s: float = 0.0
    gpus: list[GpuStatus] = []
    missing: dict[str, str] = {}


class ModelStatus(Struct, frozen=True, kw_only=True):
    """One model. `why`: it has failed, or could not be loaded just now. `bytes`: what its workers need, as planned; 0 where that was
    not planned."""

    name: str
    state: Presence
    load: Literal["pinned", "demand"] = "pinned"
    why: str = ""
    workers: int = 0
    ready: int = 0
    open: int = 0
    bytes: int = 0


class Status(Struct, frozen=True, kw_only=True):
    """Everything. `web` and `mobile` are base addresses for clients, `key` names the file that holds the admin key,
    `certificate` the one to trust where the addresses speak TLS."""

    state: Overall
    data: str
    model: str
    web: str
    mobile: str
    key: str
    uptime_s: float
    processes: list[ProcessStatus]
    certificate: str = ""
    models: list[ModelStatus] = []


class Report(Struct, frozen=True, kw_only=True, tag_field="kind", tag="report"):
    """A process about itself. Everything but the name and the pid is optional: an older process may say less. `models`: of each
    model that is loaded on demand how many calls are open at this gateway, and how many have ended here. `missing`: the services that
    this process should offer and cannot, and why."""

    name: Word
    pid: int
    state: Literal["starting", "ready", "draining"] = "ready"
    address: Word = ""
    model: Word = ""
    load: dict[Word, float] = {}
    revision: Word = ""
    gpus: list[GpuStatus] = []
    models: dict[Word, tuple[int, int]] = {}
    missing: dict[Word, Word] = {}


class StatusWanted(Struct, frozen=True, tag_field="kind", tag="status"):
    """Please tell the status of everything."""


class StopWanted(Struct, frozen=True, tag_field="kind", tag="stop"):
    """Please end everything; the connection closes when it is done."""


class ReloadWanted(Struct, frozen=True, tag_field="kind", tag="reload"):
    """Please read the configuration anew."""


class LoadWanted(Struct, frozen=True, tag_field="kind", tag="load"):
    """Please have this model loaded; the answer is how it stands now, so asking again is how one waits. `by_hand`: a person asks, so
    one that was given up is tried again."""

    model: Word
    by_hand: bool = False


class UnloadWanted(Struct, frozen=True, tag_field="kind", tag="unload"):
    """Please end the workers of this model, those that answer when they have done so; answered likewise."""

    model: Word


class Reloaded(Struct, frozen=True, kw_only=True):
    """The answer. `error` other than "": it was refused, with the reason, and the one before goes on. `taken` are the settings
    that are new, `restart` those that wait for one, `late` the gateways that have not said that they have it."""

    error: str = ""
    taken: list[str] = []
    restart: list[str] = []
    late: list[str] = []


Message = Report | StatusWanted | StopWanted | ReloadWanted | LoadWanted | UnloadWanted
Question = StatusWanted | StopWanted | ReloadWanted | LoadWanted | UnloadWanted

_messages: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_statuses = msgspec.json.Decoder(Status)
_reloads = msgspec.json.Decoder(Reloaded)
_models = msgspec.json.Decoder(ModelStatus)


def read_message(line: bytes) -> Message:
    """Raises msgspec.DecodeError (or its ValidationError) for what is none."""
    return _messages.decode(line)


def read_status(line: bytes) -> Status:
    return _statuses.decode(line)


def read_reloaded(line: bytes) -> Reloaded:
    """Raises like `read_message`."""
    return _reloads.decode(line)


def read_model(line: bytes) -> ModelStatus:
    """Raises like `read_message`."""
    return _models.decode(line)


def write(message: Status | Reloaded | ModelStatus | Question) -> bytes:
    return msgspec.json.encode(message) + b"\n"
