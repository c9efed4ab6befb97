"""What passes through to the services: which paths, whose requests, and how many at once.

The gateway has looked who asks, by key, token or cookie as for every call, and counts the request against their limits; what they may do
there is for the service to say. A large body is passed on as it comes (http/inflow.py), a small one whole.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from cordee.domain.caller import Caller
from cordee.domain.outcome import Refusal
from cordee.domain.passages import PASSAGES, Passage
from cordee.gateway.limits.allow import Allow
from cordee.gateway.passage.carry import Carry
from cordee.gateway.passage.heads import OURS, request_head
from cordee.gateway.passage.ways import Ways
from cordee.gateway.paths import Act, Paths
from cordee.gateway.replies import refusal, refusal_of
from cordee.http.exchange import Exchange
from cordee.http.inflow import Inflow
from cordee.http.request import Request
from cordee.ports import Clock
from cordee.wire import errors
from cordee.wire.vouch import TO_SERVICES, Vouched, vouch

log = logging.getLogger(__name__)
METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")
WHOLE_BYTES_MAX = 64 * 1024  # a body up to this long is read before it is passed on
ID_BYTES = 12
DRAIN_LOOK_S = 0.02
# What becomes a call is counted there, when the service asks for it on behalf of the caller; twice would halve every limit.
COUNTED_AS_CALLS = frozenset({(b"POST", b"/v1/responses")})


@dataclass(frozen=True, slots=True)
class PassageRules:
    """See config.sections.services.Passage. `whole_bytes_max`: what the gateway takes of a body that it reads whole."""

    open_max: int = 1000
    open_per_key_max: int = 200
    body_bytes_max: int = 0
    answer_s: float = 660.0
    whole_bytes_max: int = WHOLE_BYTES_MAX


class Passages:
    """All of one gateway. `secret` is the installation's; `wall` the time of day in seconds of the epoch."""

    def __init__(
        self, rules: PassageRules, ways: Ways, secret: bytes, allow: Callable[[], Allow], clock: Clock, wall: Callable[[], float],
        passages: Sequence[Passage] = PASSAGES,
    ) -> None:  # fmt: skip
        self.rules = rules
        self.open: set[Carry] = set()
        self._ways = ways
        self._secret = secret
        self._allow = allow
        self._clock = clock
        self._wall = wall
        self._passages = passages
        self._exact = {one.path.encode(): one for one in passages if not one.path.endswith("/")}
        self._below = {one.path.encode(): one for one in passages if one.path.endswith("/")}
        self._by_key: Counter[str] = Counter()
        self._counts: Counter[tuple[str, str]] = Counter()
        ways.fell_silent = self._fell_silent

    # -- for the front door

    def add_to(self, paths: Paths) -> None:
        for passage in self._passages:
            act = self._act(passage)
            for method in METHODS:
                paths.add(method, passage.path.encode(), act)

    def find(self, request: Request) -> Passage | None:
        """Where a request leads, when its head is there. A body that is to be passed on as it comes is marked so."""
        passage = self._exact.get(request.path) or self._longest(request.path)
        if passage is None or passage.is_open:
            return passage  # who is not known yet has no large body passed on
        headers = request.headers
        length = headers.get(b"content-length")
        if length is not None and int(length) > min(WHOLE_BYTES_MAX, self.rules.whole_bytes_max):
            request.inflow = Inflow(self.rules.body_bytes_max, int(length))
        elif b"transfer-encoding" in headers:
            request.inflow = Inflow(self.rules.body_bytes_max, None)
        return passage

    def is_for_anybody(self, request: Request, passage: Passage) -> bool:
        """The service itself looks who asks. Where one of ours vouches for somebody, we look."""
        return passage.is_open and OURS not in request.headers

    async def run(self) -> None:
        await self._ways.run()

    async def drain(self, patience_s: float) -> None:
        """Wait for what is under way; what lasts longer is broken off."""
        try:
            async with asyncio.timeout(patience_s):
                while self.open:
                    await asyncio.sleep(DRAIN_LOOK_S)
        except TimeoutError:
            log.warning(
                "%d requests at services did not end within %g s and are broken off", len(self.open), patience_s
            )
            for carry in list(self.open):
                carry.close()

    def end_those(self, goes: Callable[[Caller], bool]) -> None:
        """Break off what was asked by callers who may ask no more."""
        for carry in list(self.open):
            if carry.caller is not None and goes(carry.caller):
                carry.revoke()

    def metrics(self) -> Iterable[Metric]:
        passed = CounterMetricFamily(
            "cordee_passages", "Requests passed through to services, by how they were answered; gone: the client was.",
            labels=["service", "status"],
        )  # fmt: skip
        for (service, status), count in self._counts.items():
            passed.add_metric([service, status], count)
        yield passed
        yield GaugeMetricFamily("cordee_passages_open", "Requests under way at services.", value=len(self.open))
        yield GaugeMetricFamily(
            "cordee_services_living", "Services processes that answer.", value=self._ways.count_living()
        )

    # -- one request

    def _act(self, passage: Passage) -> Act:
        def act(request: Request, exchange: Exchange, caller: Caller | None) -> None:
            self._pass(passage, request, exchange, caller)

        return act

    def _pass(self, passage: Passage, request: Request, exchange: Exchange, caller: Caller | None) -> None:
        rules, service = self.rules, passage.service.value
        key = caller.key_id if caller is not None else ""
        if len(self.open) >= rules.open_max or self._by_key[key] >= rules.open_per_key_max:
            self._counts[service, "5xx"] += 1
            what = "the services have as many requests of yours, or of all, as they may at once; ask again in a second"
            exchange.answer(refusal(503, what, code="too_many_requests_open"))
            return
        if caller is not None and (request.method, request.path) not in COUNTED_AS_CALLS:
            now, allow = self._clock.now(), self._allow()
            refused = allow.count(now, caller)
            if isinstance(refused, Refusal):
                self._counts[service, f"{errors.STATUS[refused.why] // 100}xx"] += 1
                exchange.answer(refusal_of(refused, allow.headers(now, caller)))
                return
        id = secrets.token_hex(ID_BYTES)

        def head(is_last: bool) -> bytes:
            who = self._vouch(caller) if caller is not None else ""
            return request_head(request, id, who, is_open=passage.is_open and caller is None, is_last=is_last)

        def ended(carry: Carry, status: int) -> None:
            self.open.discard(carry)
            self._by_key[key] -= 1
            if not self._by_key[key]:
                del self._by_key[key]
            self._counts[service, f"{status // 100}xx" if status else "gone"] += 1

        carry = Carry(request, exchange, self._ways, id, service, head, rules.answer_s, ended, caller)
        self.open.add(carry)
        self._by_key[key] += 1
        carry.start()

    def _vouch(self, caller: Caller) -> str:
        who = Vouched(caller.tenant, caller.key_id, caller.subject, caller.scopes)
        return vouch(who, TO_SERVICES, self._secret, self._wall())

    def _fell_silent(self, index: int) -> None:
        for carry in list(self.open):
            carry.fell_silent(index)

    def _longest(self, path: bytes) -> Passage | None:
        at = path.rfind(b"/")
        while at > 0:
            found = self._below.get(path[: at + 1])
            if found is not None and len(path) > at + 1:
                return found
            at = path.rfind(b"/", 0, at)
        return None
