"""What is said over the control socket: reports from processes, the status of all, and the two requests. One JSON line each.

The structs are the contract of `cordee status --json`: fields may be added, never renamed.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

State = Literal["starting", "ready", "silent", "draining", "restarting", "failed", "stopped"]
"""`silent`: alive, but it has not reported for a while (a stopped or overwhelmed process)."""

Role = Literal["supervisor", "edge", "web", "mobile", "worker"]
Overall = Literal["starting", "ready", "degraded", "stopping"]

LINE_BYTES_MAX = 64 * 1024  # the status of some hundred processes; anything longer is not one of ours
Word = Annotated[str, Meta(max_length=512)]


class ProcessStatus(Struct, frozen=True, kw_only=True):
    """One process. `server` 0: it belongs to no server (edge, supervisor). `pid` 0: it does not run at the moment."""

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


class Status(Struct, frozen=True, kw_only=True):
    """Everything. `web` and `mobile` are base addresses for clients, `key` names the file that holds the admin key."""

    state: Overall
    data: str
    model: str
    web: str
    mobile: str
    key: str
    uptime_s: float
    processes: list[ProcessStatus]


class Report(Struct, frozen=True, kw_only=True, tag_field="kind", tag="report"):
    """A process about itself. Everything but the name and the pid is optional: an older process may say less."""

    name: Word
    pid: int
    state: Literal["starting", "ready", "draining"] = "ready"
    address: Word = ""
    model: Word = ""
    load: dict[Word, float] = {}


class StatusWanted(Struct, frozen=True, tag_field="kind", tag="status"):
    """Please tell the status of everything."""


class StopWanted(Struct, frozen=True, tag_field="kind", tag="stop"):
    """Please end everything; the connection closes when it is done."""


Message = Report | StatusWanted | StopWanted

_messages: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_statuses = msgspec.json.Decoder(Status)


def read_message(line: bytes) -> Message:
    """Raises msgspec.DecodeError (or its ValidationError) for what is none."""
    return _messages.decode(line)


def read_status(line: bytes) -> Status:
    return _statuses.decode(line)


def write(message: Status | StatusWanted | StopWanted) -> bytes:
    return msgspec.json.encode(message) + b"\n"
