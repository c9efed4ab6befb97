"""What a dead process left half-said is settled: stored as far as it was sent, as a response that is incomplete.

The text comes from the gateways, which keep every stored answer for `streams.keep_s`; how much of it was sent, from the dead process's
file. Of a server that is gone with its disk the file is missing: its responses are settled without text, when they cannot be going on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cordee.services.base.door import Asked, DoorError, RefusedError
from cordee.services.chats.log import ConflictError, NoStreamError, Owner
from cordee.services.chats.responses.deltas import DONE, BrokenError, Extent, heard
from cordee.services.chats.responses.naming import RESPONSE, names
from cordee.services.chats.responses.projection import Stored, left_open, named
from cordee.services.chats.responses.said import cut
from cordee.services.chats.responses.sent import Left, Sent, left_behind
from cordee.services.chats.responses.speaking import Speaking
from cordee.services.chats.responses.telling import caller_of
from cordee.services.chats.responses.translate_out import INTERRUPTED, ended
from cordee.services.chats.responses.work import ended as ended_tellings
from cordee.services.chats.responses.work import read_back
from cordee.services.chats.service import Service

BEGUN_AT = 1  # the version of a response of which nothing but its beginning was told
_OPEN_MAX = 100  # settled from afar at one look
_log = logging.getLogger(__name__)


class UnsettledError(Exception):
    """What is needed cannot be reached now; the file stays, and is looked at again."""


async def settle(service: Service, sent: Sent) -> int:
    """Settle what there is and return how many. Raises AwayError."""
    count = 0
    if service.recorder.is_behind:
        return count  # the beginning of one may still wait on disk
    try:
        with left_behind(sent.path.parent, sent.path) as found:
            for left in found:
                count += await _settle(service, left)
    except UnsettledError as error:
        _log.warning("what a process left half-said waits: %s", error)
    settings = service.settings.responses
    oldest = service.now() - settings.total_s - settings.abandoned_s
    async with service.database.reading() as on:
        forlorn = await left_open(on, f"{RESPONSE}_{max(0, int(oldest * 1000)):012x}", _OPEN_MAX)
    for owner, stored in forlorn:
        count += await _store(service, owner, stored, [])
    return count


async def _settle(service: Service, left: Left) -> int:
    async with service.database.reading() as on:
        known = await named(on, left.response)
        told = None if known is None else await service.log.read(on, left.response, known[0].tenant, 0, BEGUN_AT)
    if known is None:
        beginning = read_back(left.response, left.beginning)
        if beginning is None:
            return 0  # it was erased, or nothing of it had left
        try:
            await service.recorder.record([beginning])
        except (ConflictError, NoStreamError):
            return 0  # it was erased
        data = beginning.happened[0].data
        owner, stored = beginning.owner, Stored(left.response, False, data["input"], data["response"])
    elif known[1].body["status"] != "in_progress" or not told or not told[0].data:
        return 0
    else:
        (owner, stored), data = known, told[0].data
    output = await _said(service, left, stored, data["caller"]) if left.extent != Extent() else []
    return await _store(service, owner, stored, output)


async def _said(service: Service, left: Left, stored: Stored, caller: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The items up to where they were sent."""
    speaking = Speaking(_fields(stored), names(stored.id, len(stored.input)))
    asked = Asked("GET", f"/v1/calls/{left.call}/events", timeout_s=service.settings.responses.total_s)
    try:
        async with service.ground.door.stream(caller_of(caller), asked) as said:
            async for one in said:
                if one.data == DONE or _reaches(speaking.extent, left.extent):
                    break
                speaking.hear(heard(one.data))
    except RefusedError as refused:
        if refused.status != 404:
            raise UnsettledError(f"a gateway refused {stored.id} with {refused.status}") from refused
        _log.warning("the text of %s is not kept any more", stored.id)
    except DoorError as error:
        raise UnsettledError("no gateway answers") from error
    except BrokenError as error:
        _log.warning("the text of %s ends early: %s", stored.id, error)
    return cut(speaking.output, left.extent)


def _reaches(extent: Extent, wanted: Extent) -> bool:
    return (
        extent.reasoning >= wanted.reasoning
        and extent.content >= wanted.content
        and extent.calls >= wanted.calls
        and extent.arguments >= wanted.arguments
    )


async def _store(service: Service, owner: Owner, stored: Stored, output: list[dict[str, Any]]) -> int:
    response = ended(_fields(stored), INTERRUPTED, output, None, service.now())
    first, *others = ended_tellings(owner, response, stored.input)
    try:
        await service.recorder.record([replace(first, expected=BEGUN_AT), *others])
    except (ConflictError, NoStreamError):
        return 0  # its end was told meanwhile, or it was erased
    return 1


def _fields(stored: Stored) -> dict[str, Any]:
    ends = ("status", "completed_at", "error", "incomplete_details", "output", "usage")
    return {name: value for name, value in stored.body.items() if name not in ends}
