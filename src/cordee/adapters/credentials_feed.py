"""A gateway follows accounts: it asks one services process after the other what is new, and waits there until something is.

While nobody answers, what is known stays in force; how old that is, is told. A page that is not sealed with the installation's secret is
nothing. A gateway that must begin anew builds the new knowledge beside the old and changes over when it is whole, so at no moment is
somebody unknown who was known before and still is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import urlencode

from prometheus_client.core import GaugeMetricFamily, Metric

from cordee.adapters import credentials_state
from cordee.adapters.credentials import Credentials
from cordee.adapters.known import Known
from cordee.adapters.one_request import AnswerError, get
from cordee.domain.record import record
from cordee.wire import credentials, vouch
from cordee.wire.credentials import Page
from cordee.wire.vouch import TO_SERVICES, Vouched

KEEP_S = 1.0  # between two writings of the state, however much is new
UNIX = "unix:"
SYSTEM = "system"  # the scope in which the installation asks itself
_ASKER = Vouched("", "gateway", "", frozenset({SYSTEM}))
_log = logging.getLogger(__name__)


@record
class FeedRules:
    """See config.sections.services.Feed."""

    wait_s: float
    answer_s: float
    retry_s: float
    page_bytes_max: int


class Follower:
    """`sockets`: `unix:/PATH` of the services processes, the nearest first. `run` until it is cancelled."""

    def __init__(
        self, known_by: Credentials, sockets: tuple[str, ...], secret: bytes, data: Path, rules: FeedRules,
        wall: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.rules = rules
        self._credentials = known_by
        self._sockets = tuple(socket.removeprefix(UNIX) for socket in sockets)
        self._secret = secret
        self._data = data
        self._wall = wall
        self._building: Known | None = None
        self._heard_s = 0.0
        self._kept = ("", 0)
        self._complained = False

    def remember(self) -> None:
        """Begin with what a gateway of this host knew last. Blocks. Raises OSError."""
        page = credentials_state.kept(self._data, self._secret)
        if page is not None:
            self._credentials.known.take(page, self._wall())
            self._kept = page.epoch, page.revision

    async def run(self) -> None:
        keeping = asyncio.create_task(self._keep())
        try:
            turn = 0
            while True:
                try:
                    self.take(await self._ask(self._sockets[turn % len(self._sockets)]))
                except AnswerError as error:
                    self._complain(error)
                    turn += 1
                    await asyncio.sleep(self.rules.retry_s)
                except Exception as error:
                    # Whatever it is, a revoked key that nobody hears of is worse than one more try.
                    _log.error("accounts cannot be followed, who is known stays known", exc_info=error)
                    turn += 1
                    await asyncio.sleep(self.rules.retry_s)
        finally:
            keeping.cancel()

    def take(self, page: Page) -> None:
        """A page has come."""
        known, now = self._credentials.known, self._wall()
        if self._complained:
            _log.info("accounts answer again")
        self._heard_s, self._complained = now, False
        if page.restarts or (page.epoch != known.epoch and page.after == 0 and self._building is None):
            self._building = known.anew()
        self.learning.take(page, now)
        if self._building is not None and not page.has_more:
            self._credentials.known, self._building = self._building, None

    @property
    def learning(self) -> Known:
        """What the next page goes into."""
        return self._credentials.known if self._building is None else self._building

    def metrics(self) -> Iterable[Metric]:
        """For gateway.metrics."""
        age_s = self._wall() - self._heard_s if self._heard_s else float("nan")
        yield GaugeMetricFamily("cordee_credentials_age_seconds", "Since accounts were heard last.", value=age_s)
        yield GaugeMetricFamily(
            "cordee_credentials_keys", "Keys of accounts known here.", value=len(self._credentials.known)
        )

    async def _ask(self, socket: str) -> Page:
        known, rules = self.learning, self.rules
        asked = urlencode(
            {
                "epoch": known.epoch, "after": known.revision, "since": known.since, "wait_s": rules.wait_s,
                "format": credentials.FORMAT,
            }
        )  # fmt: skip
        headers = [(vouch.HEADER, vouch.vouch(_ASKER, TO_SERVICES, self._secret, self._wall()))]
        status, told, body = await get(
            socket, f"{credentials.PATH}?{asked}", headers, rules.wait_s + rules.answer_s, rules.page_bytes_max
        )
        if status != 200:
            raise AnswerError(f"it answers with status {status}")
        seal = told.get(credentials.SEAL_HEADER.lower().encode(), b"").decode("latin-1")
        if not credentials.is_sealed(body, seal, self._secret):
            raise AnswerError("the page is not sealed with this installation's secret")
        try:
            page = credentials.decode(body)
        except ValueError as error:
            raise AnswerError(f"the page cannot be read: {error}") from error
        if page.after != known.revision and not page.restarts:
            raise AnswerError(f"the page begins at {page.after} instead of {known.revision}")
        return page

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(KEEP_S)
            known = self._credentials.known
            if (known.epoch, known.revision) == self._kept or not known.epoch:
                continue
            page = known.whole()
            try:
                await asyncio.to_thread(credentials_state.keep, self._data, page, self._secret)
            except OSError as error:
                _log.warning("what is known of accounts could not be written down: %s", error.strerror)
            else:
                self._kept = page.epoch, page.revision

    def _complain(self, error: AnswerError) -> None:
        if not self._complained:
            _log.warning("accounts do not answer, who is known stays known: %s", error)
            self._complained = True
