"""Sends what is due, in any number of processes: each delivery is taken up by one of them, for a time.

One that was sent but not noted when its process died is sent again with the same id: at least once, as Standard Webhooks says. An
endpoint that only fails for days is switched off, and that is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random

from cordee.services.base.database import AwayError
from cordee.services.webhooks.records import Delivery, Endpoint
from cordee.services.webhooks.rules.schedule import GONE, State, Tried, after, is_given_up
from cordee.services.webhooks.secrets_made import headers
from cordee.services.webhooks.service import Service
from cordee.services.webhooks.store import deliveries, endpoints

FORGET_S = 600.0  # between two looks for deliveries that ended long ago
GIVEN_UP = "the endpoint was switched off"
_log = logging.getLogger(__name__)
_chance = random.Random()  # noqa: S311 - spreads repetitions, guards nothing


class Deliverer:
    """`run` beside requests, or `once` for what is due now."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._sending: set[asyncio.Task[None]] = set()
        self._busy: dict[str, int] = {}
        self._forgot_at = 0.0

    async def run(self) -> None:
        """Until cancelled. A database that is away is asked again."""
        settings = self._service.settings
        try:
            while True:
                self._service.awake.clear()
                try:
                    await self._begin()
                    await self._forget()
                except AwayError as error:
                    _log.warning("deliveries wait: %s", error)
                except Exception as error:
                    # Whatever it is, deliveries that nobody sends are worse than one more try.
                    _log.error("deliveries wait: looking for them failed", exc_info=error)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(settings.poll_s):
                        await self._service.awake.wait()
        finally:
            for task in self._sending:
                task.cancel()
            await asyncio.gather(*self._sending, return_exceptions=True)

    async def once(self) -> int:
        """Send what is due now; returns how many were begun. Raises AwayError."""
        begun = await self._begin()
        await asyncio.gather(*self._sending)
        return begun

    async def _begin(self) -> int:
        """Take up as many as there is room for."""
        service, settings = self._service, self._service.settings
        room = settings.deliveries_at_once - len(self._sending)
        if room <= 0:
            return 0
        now, begun = service.now(), 0
        async with service.database.reading() as on:
            found = await deliveries.due(on, now, settings.deliveries_at_once_per_endpoint, room)
        for one in found:
            if self._busy.get(one.endpoint, 0) >= settings.deliveries_at_once_per_endpoint:
                continue
            async with service.database.writing() as on:
                if not await deliveries.take_up(on, one, now, now + settings.lease_s):
                    continue
            self._busy[one.endpoint] = self._busy.get(one.endpoint, 0) + 1
            task = asyncio.create_task(self._deliver(one, one.number + 1))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
            begun += 1
        return begun

    async def _deliver(self, one: Delivery, number: int) -> None:
        try:
            async with self._service.database.reading() as on:
                endpoint = await endpoints.by_id(on, one.endpoint)
            if endpoint is None:
                return  # what waited for it has gone with it
            if endpoint.disabled_at is not None:
                async with self._service.database.writing() as on:
                    await deliveries.give_up(on, endpoint.id, self._service.now(), GIVEN_UP)
                return
            await self._note(one, number, await attempt(self._service, endpoint, one.message, one.body))
        except AwayError as error:
            _log.warning("delivery %s is repeated: what came of it could not be noted: %s", one.id, error)
        except Exception as error:
            # It is taken up again when its time is over.
            _log.error("delivery %s failed here", one.id, exc_info=error)
        finally:
            left = self._busy[one.endpoint] - 1
            if left:
                self._busy[one.endpoint] = left
            else:
                del self._busy[one.endpoint]
            self._service.awake.set()

    async def _note(self, one: Delivery, number: int, tried: Tried) -> None:
        service, settings, now = self._service, self._service.settings, self._service.now()
        follows = after(tried, one.tries + 1, settings.retry_s, settings.retry_jitter, _chance.random())
        async with service.database.writing() as on:
            endpoint = await endpoints.by_id(on, one.endpoint, is_held=True)
            if endpoint is None or not await deliveries.note(on, one, number, tried, follows, now):
                return
            if tried.is_taken and endpoint.failing_since is not None:
                await endpoints.mark(on, endpoint.id, None, endpoint.disabled_at)
            elif not tried.is_taken:
                since = endpoint.failing_since if endpoint.failing_since is not None else now
                is_over = endpoint.disabled_at is None and is_given_up(tried, since, now, settings.disable_s)
                await endpoints.mark(on, endpoint.id, since, now if is_over else endpoint.disabled_at)
                if is_over:
                    await deliveries.give_up(on, endpoint.id, now, GIVEN_UP)
                    why = "gone" if tried.status == GONE else "failing"
                    await service.tell(on, "endpoint.disabled", endpoint, {"why": why})
                    _log.warning("endpoint %s is switched off: %s", endpoint.id, why)
        if follows.state is State.FAILED:
            _log.warning("delivery %s to endpoint %s has failed after %d tries", one.id, one.endpoint, one.tries + 1)

    async def _forget(self) -> None:
        now = self._service.now()
        if now - self._forgot_at >= FORGET_S:
            self._forgot_at = now
            async with self._service.database.writing() as on:
                await deliveries.forget(on, now - self._service.settings.kept_s)


async def attempt(service: Service, endpoint: Endpoint, id: str, body: str) -> Tried:
    """One signed request."""
    signed = headers(service.secrets_of(endpoint), id, service.now(), body)
    return await service.sender.send(endpoint.url, signed, body)
