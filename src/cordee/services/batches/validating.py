"""The first step of a batch: its input file is read, in pieces, checked line by line, and kept as lines of the database.

May be done again from the beginning at any time, until the moment in which the batch is said to be in progress.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.services.base.door import Asked, RefusedError
from cordee.services.base.saga import ImpossibleError, Turn
from cordee.services.batches.behalf import archivist
from cordee.services.batches.records import Batch, Fault, Line, Status
from cordee.services.batches.rules import lifecycle
from cordee.services.batches.rules.cutting import Cutter, TooLongError
from cordee.services.batches.rules.lines import Check
from cordee.services.batches.service import Service
from cordee.services.batches.store import batches, lines
from cordee.services.batches.work import held_by, of_turn, told

_GONE = frozenset({400, 404, 410})
_NOT_VALID = "the input file is not valid"


@dataclass(slots=True)
class _Reading:
    """What was found so far."""

    check: Check
    piece: list[Line] = field(default_factory=list)
    piece_bytes: int = 0
    total: int = 0
    faults: list[Fault] = field(default_factory=list)


async def validate(service: Service, turn: Turn) -> None:
    """The step."""
    batch = await of_turn(service, turn)
    if batch.status is Status.FAILED:
        raise ImpossibleError(_NOT_VALID)
    if batch.in_progress_at is not None or batch.status is not Status.VALIDATING or service.now() >= batch.expires_at:
        return
    await _clear(service, turn, batch)
    reading = _Reading(Check(batch.endpoint))
    try:
        await _read(service, turn, batch, reading)
    except RefusedError as error:
        if error.status not in _GONE:
            raise
        said = f"the input file {batch.input_file} cannot be read any more."
        reading.faults.append(Fault("invalid_input_file", said, "input_file_id"))
    if not reading.total and not reading.faults:
        reading.faults.append(Fault("empty_file", "the input file has no requests.", "input_file_id"))
    async with turn.writing() as on:
        await _conclude(service, on, turn, reading)
    if reading.faults:
        raise ImpossibleError(_NOT_VALID)


async def _clear(service: Service, turn: Turn, batch: Batch) -> None:
    """Forget what an earlier try has read."""
    removed = 1
    while removed:
        async with turn.writing() as on:
            removed = await lines.remove(on, batch.id, service.settings.piece_lines)


async def _read(service: Service, turn: Turn, batch: Batch, reading: _Reading) -> None:
    """The whole file, or up to where it is past mending. Raises RefusedError, DoorError."""
    settings = service.settings
    cutter, came = Cutter(settings.line_bytes_max), 0
    asked = Asked("GET", f"/v1/files/{batch.input_file}/content", timeout_s=settings.upload_s)
    try:
        async with service.door.fetch(archivist(batch), asked) as pieces:
            async for piece in pieces:
                came += len(piece)
                if came > settings.input_bytes_max:
                    said = f"the input file has more than {settings.input_bytes_max} bytes; split it."
                    reading.faults.append(Fault("file_too_large", said, "input_file_id"))
                for number, text in cutter.feed(piece):
                    await _take(service, turn, batch, reading, number, text)
                if _is_past_mending(service, reading):
                    return
        for number, text in cutter.end():
            await _take(service, turn, batch, reading, number, text)
    except TooLongError as error:
        said = f"this line has more than {settings.line_bytes_max} bytes."
        reading.faults.append(Fault("line_too_long", said, None, error.args[0]))
    await _keep(turn, batch, reading)


def _is_past_mending(service: Service, reading: _Reading) -> bool:
    """Whether nothing more needs to be said about this file."""
    if len(reading.faults) >= service.settings.errors_max:
        return True
    return any(fault.line is None for fault in reading.faults)


async def _take(service: Service, turn: Turn, batch: Batch, reading: _Reading, number: int, text: bytes) -> None:
    """One line. Once one is wrong the file is refused, so that the others are checked and not kept."""
    settings = service.settings
    if _is_past_mending(service, reading):
        return
    reading.total += 1
    if reading.total > settings.lines_max:
        said = f"the input file has more than {settings.lines_max} requests; split it."
        reading.faults.append(Fault("too_many_tasks", said, "input_file_id"))
        return
    found = reading.check.line(number, text)
    if isinstance(found, Fault):
        reading.faults.append(found)
        return
    reading.piece.append(found)
    reading.piece_bytes += len(text)
    if len(reading.piece) >= settings.piece_lines or reading.piece_bytes >= settings.piece_bytes:
        await _keep(turn, batch, reading)


async def _keep(turn: Turn, batch: Batch, reading: _Reading) -> None:
    """Write down the piece that was read."""
    if reading.piece and not reading.faults:
        async with turn.writing() as on:
            await lines.add(on, batch.id, reading.piece)
    reading.piece.clear()
    reading.piece_bytes = 0


async def _conclude(service: Service, on: AsyncConnection, turn: Turn, reading: _Reading) -> None:
    """Say what came of it."""
    batch = await held_by(on, turn)
    if not reading.faults:
        await batches.change(on, lifecycle.validated(batch, reading.total, reading.check.model, service.now()))
        return
    refused = lifecycle.refused(batch, reading.faults[: service.settings.errors_max], service.now())
    await batches.change(on, refused)
    await service.tell(on, "batch.failed", batch.id, batch.tenant, told(refused))
