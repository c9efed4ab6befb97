"""The known answers of canaries on disk: what two replicas of one fingerprint once agreed on is right after every restart too."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from cordee.adapters import durable

log = logging.getLogger(__name__)

FILE = "canary.json"
BYTES_MAX = 1024 * 1024  # far beyond what gateways write; more is not ours

_decoder = msgspec.json.Decoder(dict[str, tuple[int, ...]])


def read(data: Path) -> dict[str, tuple[int, ...]]:
    """Answers by fingerprint. What cannot be read is as if it was not there: workers will agree anew."""
    path = data / FILE
    try:
        with path.open("rb") as file:
            return _decoder.decode(file.read(BYTES_MAX))
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        log.warning("the known answers in %s cannot be read, workers have to agree anew: %s", path, error)
        return {}


def write(data: Path, answers: dict[str, tuple[int, ...]]) -> None:
    """Add to what is on disk; gateways of one installation share the file. A disk that cannot be written is said, no more."""
    path = data / FILE
    try:
        with durable.locked(path.with_name(path.name + ".lock")):
            durable.replace(path, msgspec.json.encode({**read(data), **answers}) + b"\n")
    except OSError as error:
        log.warning("the known answers cannot be written to %s: %s", path, error)
