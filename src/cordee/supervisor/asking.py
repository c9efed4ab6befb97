"""The other end of the control socket, for commands: blocking, with a time-out."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import msgspec

from cordee.supervisor.addresses import AddressError, socket_dir
from cordee.supervisor.status import (
    LoadWanted,
    ModelStatus,
    Question,
    Reloaded,
    ReloadWanted,
    Status,
    StatusWanted,
    StopWanted,
    UnloadWanted,
    read_model,
    read_reloaded,
    read_status,
    write,
)

CONTROL = "control.sock"
ANSWER_S = 5.0  # the supervisor does nothing but answer; longer is a stopped one
READ_BYTES = 65536
RELOAD_S = 30.0  # it checks the file, and waits a few seconds for the gateways


class NotRunningError(Exception):
    """No platform runs for this data directory, or it does not answer; the message says what to do."""


def control_path(data: Path) -> Path:
    """Where the platform of `data` listens. Raises AddressError when no path is short enough."""
    return socket_dir(data / "run", data, os.environ.get("XDG_RUNTIME_DIR")) / CONTROL


def ask_status(data: Path) -> Status:
    """Raises NotRunningError."""
    with _connect(data) as connection:
        return read_status(_first_answer(connection, StatusWanted(), data))


def ask_reload(data: Path) -> Reloaded:
    """Ask for the configuration to be read anew. Raises NotRunningError."""
    with _connect(data) as connection:
        connection.settimeout(RELOAD_S)
        return read_reloaded(_first_answer(connection, ReloadWanted(), data))


def ask_load(data: Path, model: str) -> ModelStatus:
    """Ask for a model to be loaded, even one that was given up; returns how it stands, at once. Raises NotRunningError."""
    with _connect(data) as connection:
        return read_model(_first_answer(connection, LoadWanted(model, by_hand=True), data))


def ask_unload(data: Path, model: str) -> ModelStatus:
    """Ask for the workers of a model to end; returns how it stands, at once. Raises NotRunningError."""
    with _connect(data) as connection:
        return read_model(_first_answer(connection, UnloadWanted(model), data))


def ask_stop(data: Path, wait_s: float) -> Status:
    """Ask everything to end and wait until it has; returns how it was. Raises NotRunningError, TimeoutError."""
    with _connect(data) as connection:
        status = read_status(_first_answer(connection, StopWanted(), data))
        connection.settimeout(wait_s)
        while connection.recv(READ_BYTES):
            pass
    return status


def _connect(data: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(ANSWER_S)
    try:
        connection.connect(os.fspath(control_path(data)))
    except (FileNotFoundError, ConnectionRefusedError) as error:
        connection.close()
        raise NotRunningError(f"nothing runs for {data}: start it with `cordee up --data {data}`") from error
    except (OSError, AddressError) as error:
        connection.close()
        raise NotRunningError(f"the platform of {data} cannot be asked: {error}") from error
    return connection


def _first_answer(connection: socket.socket, question: Question, data: Path) -> bytes:
    try:
        connection.sendall(write(question))
        with connection.makefile("rb") as answers:
            line = answers.readline()
        msgspec.json.decode(line)  # whole, or the supervisor went away in the middle of it
    except (OSError, msgspec.DecodeError) as error:
        raise NotRunningError(
            f"the supervisor of {data} does not answer within {connection.gettimeout():g} s ({error}); see whether it is stopped"
        ) from error
    return line
