"""The responses of one process: what its requests use, and what runs beside them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from cordee.services.base.database import AwayError
from cordee.services.base.identifiers import new
from cordee.services.chats.responses import runs
from cordee.services.chats.responses.background import Background
from cordee.services.chats.responses.following import Following
from cordee.services.chats.responses.sent import Sent
from cordee.services.chats.responses.settling import settle
from cordee.services.chats.service import Service

_log = logging.getLogger(__name__)


class Responses:
    """`app.state.responses`. Made inside the event loop, within `living`."""

    def __init__(self, service: Service, sent: Sent) -> None:
        self.service = service
        self.sent = sent
        self.background = Background(service)
        self.following = Following(service)


@contextlib.asynccontextmanager
async def living(service: Service) -> AsyncIterator[Responses]:
    """From the start of the process to its end. Raises OSError when the data directory cannot be written."""
    directory = service.ground.data / "services" / "responses"
    sent = Sent(directory, new("sent"), service.settings.responses.streams_max)
    responses = Responses(service, sent)
    beside = [asyncio.create_task(responses.background.run()), asyncio.create_task(_tidy(service, sent))]
    try:
        yield responses
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        sent.close()


async def _tidy(service: Service, sent: Sent) -> None:
    """Settle what dead processes left, and forget what is old, now and then, until cancelled."""
    settings = service.settings.responses
    while True:
        try:
            if count := await settle(service, sent):
                _log.info("%d responses that a dead process left half-said were settled", count)
            async with service.database.writing() as on:
                await runs.tidy(on, service.now() - settings.events_kept_s)
        except AwayError as error:
            _log.warning("what dead processes left waits: %s", error)
        except Exception as error:
            # Whatever it is, what nobody settles is worse than one more try.
            _log.error("what dead processes left waits: settling it failed", exc_info=error)
        await asyncio.sleep(settings.tidy_s)
