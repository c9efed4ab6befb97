"""A response that its client waits for in one piece: made, recorded, answered."""

from __future__ import annotations

import logging
from typing import Any

from cordee.services.base.door import DoorError, RefusedError
from cordee.services.chats.log import ConflictError, NoStreamError
from cordee.services.chats.responses.asking import Asking, away, problem_of
from cordee.services.chats.responses.deltas import BrokenError, heard
from cordee.services.chats.responses.naming import names
from cordee.services.chats.responses.speaking import Speaking
from cordee.services.chats.responses.translate_out import Status, begun, ending_of
from cordee.services.chats.responses.work import Work, at_once
from cordee.services.chats.service import Service
from cordee.services.chats.spool import SpoolError

_ACCEPTED = 200
_log = logging.getLogger(__name__)


async def whole(service: Service, work: Work, priority: str) -> dict[str, Any]:
    """The response object. What is answered was recorded before. Raises Problem and Invalid."""
    total_s = service.settings.responses.total_s
    asking = Asking(work, stream=False, priority=priority, timeout_s=total_s, headers={})
    speaking = Speaking(work.fields, names(work.id, len(work.given)))
    try:
        while True:
            answer = await service.ground.door.ask(work.caller, asking.asked)
            if answer.status == _ACCEPTED:
                break
            wait = answer.headers.get("retry-after", "")
            refused = RefusedError(answer.status, answer.body, float(wait) if wait.isdigit() else None)
            if not asking.is_shortened(refused):
                raise problem_of(refused)
        speaking.hear(heard(answer.body))
    except (DoorError, BrokenError) as error:
        raise away() from error
    speaking.close("completed" if speaking.finish != "length" else "incomplete")
    response = speaking.response(ending_of(speaking.finish), service.now())
    if work.asked.is_stored:
        try:
            await service.recorder.record(at_once(work, begun(work.fields, Status.IN_PROGRESS), response))
        except (ConflictError, NoStreamError) as error:
            _log.warning("%s is not stored: its conversation was deleted meanwhile: %s", work.id, error)
        except SpoolError as error:
            _log.error("%s is answered and not stored: %s", work.id, error)
    return response
