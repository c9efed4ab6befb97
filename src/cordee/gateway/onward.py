"""A request that may be answered by another model than the one it asks for: which one is next, and how the request gets there.

The request goes in by the same way again, with another model's name in its body, so it is read, checked and tokenised as that model
needs it; its allowance, its time of arrival and the memory of its way go with it. Nothing has left for the client by then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from cordee.domain.call import BYTES_PER_TOKEN
from cordee.domain.caller import Caller
from cordee.flow.trip import Trip
from cordee.gateway.limits.allow import Allowance
from cordee.gateway.roster import Roster
from cordee.http.exchange import Outlet
from cordee.http.request import Request
from cordee.policy.fallback import Can, Cause, Fallbacks, Needs
from cordee.wire.errors import Invalid
from cordee.wire.requests import ChatRequest, CompletionRequest
from cordee.wire.reroute import with_model

if TYPE_CHECKING:
    from cordee.gateway.prepare import Model

log = logging.getLogger(__name__)
CONTEXT_CODE = "context_length_exceeded"
CONTEXT_WORDS = (CONTEXT_CODE.encode(), b"maximum context length")  # as servers say it
NOTHING = frozenset({b"null", b"[]", b'{"type":"text"}'})
Again = Callable[[Request], None]  # the request comes in once more; raises Invalid


class Chains:
    """The chains of a gateway. `models`: those that it tokenises itself, `abilities`: what is configured of each model."""

    def __init__(
        self, fallbacks: Fallbacks, abilities: Mapping[str, Can], roster: Roster, models: Mapping[str, Model]
    ) -> None:
        self.fallbacks = fallbacks
        self._abilities = abilities
        self._roster = roster
        self._models = models

    def take(
        self, request: Request, exchange: Outlet, caller: Caller, body: ChatRequest | CompletionRequest, again: Again
    ) -> None:
        """From now on this request may go on to other models, if the one it asks for has a chain."""
        if request.onward is None and body.model in self.fallbacks.chains:
            request.onward = Onward(self, request, exchange, caller, body.model, needs(request, body), again)

    def can(self, model: str) -> Can | None:
        """What a model can do here; None: nobody serves it now."""
        pool = self._roster.pools.get(model)
        if pool is None or not pool.is_ready:
            return None
        said = self._abilities.get(model, Can())
        if model not in self._models:
            return said
        own, context = self._models[model], self._roster.contexts.get(model, 0)
        # No worker of ours goes on with an assistant's turn.
        context = min(context, said.context) if said.context else context
        return Can(continues=False, tools=own.template.uses_tools, schema=own.constrains, context=context)


class Onward:
    """One request. `allowance` is what it may spend, once it has been a call; `arrived_s` is when that began, and `trip` where it was."""

    __slots__ = (
        "_again", "_chains", "_needs", "_request", "_tried", "allowance", "arrived_s", "asked", "caller", "exchange", "has_moved",
        "trip",
    )  # fmt: skip

    def __init__(
        self, chains: Chains, request: Request, exchange: Outlet, caller: Caller, asked: str, needs: Needs, again: Again
    ) -> None:
        self._chains = chains
        self._request = request
        self._needs = needs
        self._again = again
        self._tried = {asked}
        self.exchange = exchange
        self.caller = caller
        self.asked = asked
        self.arrived_s = 0.0
        self.trip = Trip()
        self.has_moved = False
        self.allowance: Allowance | None = None

    def moves(self, cause: Cause, trip: Trip | None = None, allowance: Allowance | None = None) -> bool:
        """True: the request is on its way to another model, and whoever asked has nothing more to do with it."""
        self.trip, self.allowance = trip or self.trip, allowance or self.allowance
        while self.exchange.is_open:
            model = self._chains.fallbacks.next(self.asked, self._tried, cause, self._needs, self._chains.can)
            if model is None:
                return False
            self._tried.add(model)
            self.has_moved = True
            try:
                self._again(self._renamed(model))
            except (Invalid, msgspec.MsgspecError) as fault:
                log.info("model %s cannot answer in place of %s: %s", model, self.asked, fault)
                continue
            return True
        return False

    def outgrown(self, fault: Invalid) -> bool:
        """The model cannot read so much. True: another one is asked."""
        return fault.code == CONTEXT_CODE and self.moves(Cause.CONTEXT)

    def was_outgrown(self, status: int, body: bytes) -> bool:
        """Whether another server's answer says that its model cannot read so much."""
        return status in (400, 413) and any(words in body for words in CONTEXT_WORDS)

    def _renamed(self, model: str) -> Request:
        old = self._request
        request = Request(old.method, old.version, dict(old.headers), old.keep_alive)
        request.path, request.query, request.caller = old.path, old.query, old.caller
        request.body = with_model(old.body, model)
        request.onward = self
        return request


def needs(request: Request, body: ChatRequest | CompletionRequest) -> Needs:
    """What whoever answers must be able to do."""
    tokens = len(request.body) // BYTES_PER_TOKEN
    if not isinstance(body, ChatRequest):
        return Needs(schema=_is_shaped(body), tokens=tokens)
    last = body.messages[-1].role if body.messages else ""
    return Needs(last == "assistant", _is_given(body.tools), _is_shaped(body), tokens)


def _is_shaped(body: ChatRequest | CompletionRequest) -> bool:
    """The answer has to be something."""
    return _is_given(body.response_format) or _is_given(body.structured_outputs)


def _is_given(value: object) -> bool:
    return isinstance(value, msgspec.Raw) and bytes(value).replace(b" ", b"") not in NOTHING
