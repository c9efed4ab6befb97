"""The last steps of a batch: its output and error files are stored, its end is told, and its lines are deleted.

Files are handed in under an Idempotency-Key each, so one that was stored before a crash is found and not stored again; both are
written from the same unchanging lines, so a repeat has the same bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import msgspec

from cordee.services.base.door import Asked
from cordee.services.base.saga import Turn
from cordee.services.batches.behalf import archivist
from cordee.services.batches.records import Batch, Fate, Status
from cordee.services.batches.rules import lifecycle
from cordee.services.batches.rules.results import written
from cordee.services.batches.service import Service
from cordee.services.batches.store import batches, lines
from cordee.services.batches.work import held_by, of_turn, told

PURPOSE = "batch_output"
_CHARACTERS_SHOWN = 200  # of a refusal, in the job's error


class _Stored(msgspec.Struct):
    id: str


class StoringError(Exception):
    """The file was not taken; it is tried again."""


async def finalize(service: Service, turn: Turn) -> None:
    """The step: nothing is asked any more, what was never answered has failed, the files are stored."""
    batch = await of_turn(service, turn)
    if batch.has_ended:
        return
    batch = await _begin(service, turn)
    end = lifecycle.end_of(batch)
    output = errors = None
    if batch.in_progress_at is not None:  # else its input was never read to the end, and nothing of it was asked
        if end is not Status.COMPLETED:
            await _give_up(service, turn)
        output = await _store(service, batch, Fate.SERVED, end)
        errors = await _store(service, batch, Fate.FAILED, end)
    async with turn.writing() as on:
        held = await held_by(on, turn)
        ended = replace(lifecycle.ended(held, end, service.now()), output_file=output, error_file=errors)
        await batches.change(on, ended)
        match end:
            case Status.EXPIRED:
                await service.tell(on, "batch.expired", ended.id, ended.tenant, told(ended))
            case Status.CANCELLED:
                await service.tell(on, "batch.cancelled", ended.id, ended.tenant, told(ended))
            case _:
                await service.tell(on, "batch.completed", ended.id, ended.tenant, told(ended))


async def clear(service: Service, turn: Turn) -> None:
    """The step: the lines of a batch that has ended are deleted, a piece at a time; what they said is in its files."""
    batch = await of_turn(service, turn)
    removed = 1
    while removed:
        async with turn.writing() as on:
            removed = await lines.remove(on, batch.id, service.settings.piece_lines)


async def _begin(service: Service, turn: Turn) -> Batch:
    """From now on it is decided how the batch ends."""
    async with turn.writing() as on:
        held = await held_by(on, turn)
        is_whole = held.in_progress_at is not None and not await lines.waiting(on, held.id, 0, 1)
        batch = lifecycle.finalizing(held, service.now(), is_whole=is_whole)
        await batches.change(on, batch)
    return batch


async def _give_up(service: Service, turn: Turn) -> None:
    """Lines without an answer fail, and are counted so in the same transaction."""
    given_up = 1
    while given_up:
        async with turn.writing() as on:
            held = await held_by(on, turn)
            given_up = await lines.give_up(on, held.id, service.settings.piece_lines)
            await batches.change(on, lifecycle.given_up(held, given_up))


async def _store(service: Service, batch: Batch, fate: Fate, end: Status) -> str | None:
    """Hand one file in and return its id; None when it would be empty. Raises StoringError, DoorError."""
    async with service.database.reading() as on:
        if not await lines.ended(on, batch.id, fate, 0, 1):
            return None
    name = "output" if fate is Fate.SERVED else "error"
    boundary = f"cordee-{batch.id}"
    asked = Asked(
        "POST", "/v1/files", _form(service, batch, fate, end, name, boundary), f"{batch.id}.{name}",
        timeout_s=service.settings.upload_s,
        headers={"content-type": f"multipart/form-data; boundary={boundary}"},
    )  # fmt: skip
    answer = await service.door.ask(archivist(batch), asked)
    if not 200 <= answer.status < 300:
        said = answer.body[:_CHARACTERS_SHOWN].decode("utf-8", "replace")
        raise StoringError(f"the {name} file was not taken ({answer.status}): {said}")
    try:
        return msgspec.json.decode(answer.body, type=_Stored).id
    except msgspec.DecodeError as error:
        raise StoringError(f"the {name} file was taken, but the answer cannot be read.") from error


async def _form(
    service: Service, batch: Batch, fate: Fate, end: Status, name: str, boundary: str
) -> AsyncIterator[bytes]:
    """A multipart body, made as it is sent. No line can hold the boundary on a line of its own: each is one JSON object."""
    fields = [("purpose", PURPOSE)]
    if batch.output_lasts_s is not None:
        fields += [("expires_after[anchor]", "created_at"), ("expires_after[seconds]", str(batch.output_lasts_s))]
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n' for field, value in fields
    )
    yield (
        f'{head}--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{batch.id}_{name}.jsonl"\r\n'
        "Content-Type: application/jsonl\r\n\r\n"
    ).encode()
    after, most = 0, service.settings.piece_lines
    while True:
        async with service.database.reading() as on:
            found = await lines.ended(on, batch.id, fate, after, most)
        for line in found:
            yield written(batch.id, end, line)
        if len(found) < most:
            break
        after = found[-1].number
    yield f"\r\n--{boundary}--\r\n".encode()
