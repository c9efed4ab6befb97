"""The front door: who may pass, and which path leads where."""

from __future__ import annotations

import asyncio
import logging
import time
from urllib.parse import unquote_to_bytes

from cordee.domain.caller import INFERENCE, Caller
from cordee.domain.outcome import Refusal, Why
from cordee.gateway.calls import Calls
from cordee.gateway.limits.overload import RETRY_AFTER_S, Overload
from cordee.gateway.metrics import CONTENT_TYPE, Metrics
from cordee.gateway.on_behalf import NAME as ON_BEHALF
from cordee.gateway.on_behalf import OnBehalf
from cordee.gateway.passage.passages import Passages
from cordee.gateway.paths import MethodError, Paths
from cordee.gateway.replies import JSON, TEXT, no_model, refusal, refusal_of
from cordee.gateway.roster import Roster
from cordee.gateway.sessions import KEY_HEADERS, BrowserSessions
from cordee.gateway.sessions import PATH as SESSIONS
from cordee.gateway.tasks.paths import TASK_PATHS
from cordee.gateway.walk import Walks
from cordee.http.exchange import Answer, Exchange
from cordee.http.request import Rejection, Request
from cordee.ports import Directory
from cordee.wire import models
from cordee.wire.errors import Invalid
from cordee.wire.models import Listed

log = logging.getLogger(__name__)

CHAT, COMPLETIONS, MODELS = b"/v1/chat/completions", b"/v1/completions", b"/v1/models"
CALL_PATHS = frozenset({CHAT, COMPLETIONS, *TASK_PATHS})
BEARER = b"bearer "
OTHER_KEY_HEADERS = {b"x-api-key", b"api-key", b"sec-websocket-protocol", ON_BEHALF}
KEY_SUBPROTOCOL = b"bearer."  # browsers can send a WebSocket's key in no other header
KNOWN_MAX = 1024  # keys remembered for at most a second
PASSED = "passed"  # with a head that is remembered: who sends it, and by which memory of keys that was found
NO_KEY = (
    "you did not provide an API key: send it in the Authorization header, as 'Authorization: Bearer KEY'; "
    "`cordee keys create NAME` makes one"
)


class Front:
    """http.server.Handler of a gateway."""

    def __init__(self, roster: Roster, directory: Directory, calls: Calls, walks: Walks, metrics: Metrics) -> None:
        self.is_draining = False
        self.on_behalf: OnBehalf | None = None  # where there are services; elsewhere their header means nothing
        self.passages: Passages | None = None  # to the services, where there are some
        self.sessions: BrowserSessions | None = None  # web gateways have them; to all others a cookie means nothing
        self._roster = roster
        self._directory = directory
        self._walks = walks
        self._metrics = metrics
        self._known: dict[bytes, Caller] = {}
        self.overload: Overload | None = None
        self._started = int(time.time())
        self.paths = Paths()
        self.paths.add(b"POST", CHAT, calls.chat)
        self.paths.add(b"POST", COMPLETIONS, calls.completion)
        self.paths.add(b"GET", MODELS, self._models)
        self.paths.add(b"GET", MODELS + b"/", self._model)
        self.paths.add(b"GET", b"/healthz", self._alive, open=True)
        self.paths.add(b"GET", b"/readyz", self._ready, open=True)
        self.paths.add(b"GET", b"/metrics", self._page, open=True)

    # -- http.server.Handler

    def admit(self, request: Request) -> Answer | None:
        remembered, overload = request.remembered, self.overload
        refuses = overload is not None and overload.step and overload.refuses
        if remembered is not None and not refuses:
            passed = remembered.get(PASSED)
            if passed is not None and passed[0] is self._known:
                request.caller = passed[1]
                return None
        if request.path in self.paths.open:
            return None
        passage = self.passages.find(request) if self.passages is not None and request.path not in CALL_PATHS else None
        if passage is not None and self.passages is not None and self.passages.is_for_anybody(request, passage):
            return self._person(request) if passage.takes_people else None
        known = self._known.get(request.headers.get(b"authorization", b""))
        if known is not None and not refuses and not OTHER_KEY_HEADERS & request.headers.keys():
            request.caller = known
            if remembered is not None:
                remembered[PASSED] = self._known, known
            return None
        caller: Caller | Answer | None = None
        if self.on_behalf is not None and ON_BEHALF in request.headers:
            caller = self.on_behalf.caller(request)
        elif self.sessions is not None and b"cookie" in request.headers:
            caller = self._signed_in(request)
        if caller is None:
            key = presented_key(request)
            caller = key if isinstance(key, Answer) else self._directory.identify(key)
        if caller is None:
            self._metrics.rejected[401] += 1
            return refusal(401, "incorrect API key provided", code=Why.BAD_KEY.value)
        if isinstance(caller, Answer):
            self._metrics.rejected[caller.status] += 1
            return caller
        if INFERENCE not in caller.scopes and (passage is not None or request.path == SESSIONS):
            request.caller = caller  # not remembered: it is let in here, and not where models are
            return None
        if INFERENCE not in caller.scopes:
            self._metrics.rejected[403] += 1
            return refusal(403, f"this key lacks the scope {INFERENCE!r}", code=Why.NO_SCOPE.value)
        if overload is not None and refuses and request.method == b"POST" and request.path in CALL_PATHS:
            self._metrics.rejected[503] += 1
            overload.refused += 1
            refused = Refusal(Why.OVERLOADED, "more is asked for than can be answered", RETRY_AFTER_S)
            return refusal_of(refused, overload.line)
        request.caller = caller
        authorization = request.headers.get(b"authorization")
        if authorization is not None and len(self._known) < KNOWN_MAX:
            self._known[authorization] = caller
        return None

    def _signed_in(self, request: Request) -> Caller | Answer | None:
        """Who asks by a browser's cookie. A key beside it is what counts."""
        assert self.sessions is not None
        return self.sessions.identify(request) if KEY_HEADERS.isdisjoint(request.headers) else None

    def _person(self, request: Request) -> Answer | None:
        """Where anybody passes and the service looks: a browser whose person signed in is vouched for."""
        if self.sessions is None or b"cookie" not in request.headers or not KEY_HEADERS.isdisjoint(request.headers):
            return None
        who = self.sessions.person(request)
        if isinstance(who, Answer):
            self._metrics.rejected[who.status] += 1
            return who
        request.caller = who
        return None

    def forget_keys(self) -> None:
        """Identify everybody anew: called every second and when keys have changed, so that no key stays in memory and a
        revoked one is refused."""
        self._known = {}  # another one, so that no head that was let in by this one is let in again
        if self.sessions is not None:
            self.sessions.forget()

    def handle(self, request: Request, exchange: Exchange) -> None:
        caller = request.caller
        if isinstance(caller, Answer):
            exchange.answer(caller)
            return
        assert caller is None or isinstance(caller, Caller)
        if self.sessions is not None and b"cookie" in request.headers:
            exchange = self.sessions.renewed(request, exchange)
        try:
            self.paths.find(request.method, request.path)(request, exchange, caller)
        except MethodError as fault:
            self._metrics.rejected[fault.status] += 1
            answer = refusal(fault.status, fault.message)
            exchange.answer(
                Answer(answer.status, answer.headers + b"allow: %s\r\n" % fault.allowed.encode(), answer.body)
            )
        except Invalid as fault:
            self._metrics.rejected[fault.status] += 1
            exchange.answer(refusal(fault.status, fault.message, fault.param, fault.code))
        except Exception:
            log.exception("a request to %s met a mistake of ours", request.path)
            self._metrics.rejected[500] += 1
            exchange.answer(refusal(500, "an internal error ended this request; the log of this gateway says more"))

    def rejected(self, rejection: Rejection) -> Answer:
        self._metrics.rejected[rejection.status] += 1
        return refusal(rejection.status, rejection.message)

    async def drain(self, patience_s: float) -> None:
        """Take no more calls, and wait for those in flight; what lasts longer than `patience_s` is ended with an error."""
        self.is_draining = True
        if self.passages is None:
            await self._walks.drain(patience_s)
        else:
            await asyncio.gather(self._walks.drain(patience_s), self.passages.drain(patience_s))

    # -- what there is to see

    def _alive(self, request: Request, exchange: Exchange, caller: Caller | None) -> None:
        exchange.answer(Answer(200, TEXT, b"ok\n"))

    def _ready(self, request: Request, exchange: Exchange, caller: Caller | None) -> None:
        if self.is_draining or not self._roster.is_ready:
            exchange.answer(Answer(503, TEXT, b"draining\n" if self.is_draining else b"no replica is ready\n"))
        else:
            exchange.answer(Answer(200, TEXT, b"ready\n"))

    def _page(self, request: Request, exchange: Exchange, caller: Caller | None) -> None:
        exchange.answer(Answer(200, CONTENT_TYPE, self._metrics.page()))

    def _models(self, request: Request, exchange: Exchange, caller: Caller | None) -> None:
        exchange.answer(
            Answer(200, JSON, models.listing([self._listed(name) for name in self._names()], self._started))
        )

    def _model(self, request: Request, exchange: Exchange, caller: Caller | None) -> None:
        name = unquote_to_bytes(request.path[len(MODELS) + 1 :]).decode("utf-8", "replace")
        if name not in self._roster.pools and not self._roster.split(name)[1]:
            raise no_model(name)
        exchange.answer(Answer(200, JSON, models.one(self._listed(name), self._started)))

    def _names(self) -> list[str]:
        """Of the models, each with its adapters behind it."""
        adapters = self._roster.adapters
        return [
            name
            for model in self._roster.pools
            for name in (model, *(f"{model}:{one}" for one in adapters.get(model, ())))
        ]

    def _listed(self, name: str) -> Listed:
        summons, base, parent = self._roster.summons, name, ""
        if name not in self._roster.pools:
            base = parent = self._roster.split(name)[0]
        if summons is None:
            return Listed(name, parent=parent)
        return Listed(name, summons.standing(base), summons.is_on_demand(base), parent)


def presented_key(request: Request) -> bytes | Answer:
    """The key in the Authorization header, in X-Api-Key or Api-Key, or offered as a WebSocket's subprotocol; two different ones
    are refused."""
    headers = request.headers
    found: set[bytes] = set()
    authorization = headers.get(b"authorization")
    if authorization is not None:
        if authorization[: len(BEARER)].lower() != BEARER:
            return refusal(401, NO_KEY, code=Why.BAD_KEY.value)
        found.add(authorization[len(BEARER) :].strip())
    for name in (b"x-api-key", b"api-key"):
        value = headers.get(name)
        if value is not None:
            found.add(value)
    for offered in headers.get(b"sec-websocket-protocol", b"").split(b","):
        if offered.strip().startswith(KEY_SUBPROTOCOL):
            found.add(offered.strip()[len(KEY_SUBPROTOCOL) :])
    if not found:
        return refusal(401, NO_KEY, code=Why.BAD_KEY.value)
    if len(found) > 1:
        return refusal(400, "two different API keys were sent; send one", "Authorization")
    return found.pop()
