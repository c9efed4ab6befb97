"""From a request to a call: the body read and checked, the pool found, the prompt tokenised, and the call sent on its walk."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import replace
from itertools import count
from random import Random
from typing import TYPE_CHECKING

from cordee.domain.call import Call, Deadlines, Priority, Task, Work
from cordee.domain.caller import Caller
from cordee.flow.facts import Fact
from cordee.flow.mailbox import Mailbox
from cordee.flow.pool import Pool
from cordee.gateway import near, prepare
from cordee.gateway.addresses import NOWHERE, refuse_addresses
from cordee.gateway.draft import Draft, Shaping
from cordee.gateway.forward import ForwardSink
from cordee.gateway.grammars import GrammarDoor
from cordee.gateway.kept.call import Kept
from cordee.gateway.kept.recorder import Recorder
from cordee.gateway.kept.sink import KeptSink
from cordee.gateway.manner import Manner, Manners
from cordee.gateway.metrics import Metrics
from cordee.gateway.onward import Chains
from cordee.gateway.openings import Openings, Waiting
from cordee.gateway.outside.hops import Hops
from cordee.gateway.replies import no_model, no_worker, reads_only, refusal
from cordee.gateway.roster import Roster
from cordee.gateway.sinks import TokenSink
from cordee.gateway.translate import Translation
from cordee.gateway.walk import Walks
from cordee.http.exchange import Outlet
from cordee.http.request import Request
from cordee.ports import Clock
from cordee.wire import requests
from cordee.wire.chat import ChatShape
from cordee.wire.completion import CompletionShape
from cordee.wire.errors import Invalid
from cordee.wire.grammar import Asked
from cordee.wire.position import Position
from cordee.wire.requests import ChatRequest, CompletionRequest
from cordee.wire.shape import Shape
from cordee.wire.strict import decode, refuse_repeated, refuse_repeated_route
from cordee.wire.talk import Talk

if TYPE_CHECKING:
    from cordee.gateway.kept.keeping import Keeping

log = logging.getLogger(__name__)
CHAT_PATH = b"/v1/chat/completions"
GENERATE = Task.GENERATE.value
LAST_EVENT_ID = b"last-event-id"  # the client comes back for the rest of an answer
INTERNAL = "an internal error ended this request; the log of this gateway says more"
ShapeOf = Callable[[str, str, str], Shape]  # of the id of a call, its model and the model's fingerprint


class Calls:
    """Makes calls of requests. `models`: what this gateway tokenises itself, by name; the bodies of all others are forwarded.
    `keeping` takes those that are to outlive this gateway, None where nothing is kept."""

    def __init__(
        self, roster: Roster, walks: Walks, metrics: Metrics, clock: Clock, rng: Random, deadlines: Deadlines
    ) -> None:
        self.models: dict[str, prepare.Model] = {}
        self._roster = roster
        self._walks = walks
        self._metrics = metrics
        self._clock = clock
        self._rng = rng
        self._manners = Manners(deadlines, {}, Hops(""))
        self.keeping: Keeping | None = None
        self.grammars: GrammarDoor | None = None  # who looks at what answers are to be held to
        self.openings: Openings | None = None  # of models whose vocabularies are read when they are needed
        self.chains: Chains | None = None  # of models that answer in each other's place, where there are any
        self.media_hosts: Set[str] = NOWHERE  # whose addresses other servers may be given
        self._ids = map(f"{secrets.token_hex(6)}%010x".__mod__, count())
        self._tasks: set[asyncio.Task[None]] = set()

    def follow(
        self, deadlines: Deadlines | None = None, priorities: Mapping[bytes, Priority] | None = None, hops: Hops | None = None
    ) -> None:  # fmt: skip
        """Calls that come from now on have these, where they do not say otherwise; None: as before. See Manners."""
        of_now = self._manners
        self._manners = Manners(
            deadlines or of_now.deadlines, of_now.priorities if priorities is None else priorities, hops or of_now.hops
        )

    def chain(self, chains: Chains | None) -> None:
        """Which models answer in each other's place, for requests that come from now on."""
        self.chains = chains

    def trust(self, media_hosts: Set[str]) -> None:
        """Whose addresses other servers may be given for images and sounds, in requests that come from now on."""
        self.media_hosts = media_hosts

    def chat(self, request: Request, exchange: Outlet, caller: Caller | None, shape_of: ShapeOf | None = None) -> None:
        """`shape_of`: the format of the answer where it is not the endpoint's own."""
        assert caller is not None
        if self.keeping is not None and LAST_EVENT_ID in request.headers:
            self.keeping.resumes.by_post(request, exchange, caller, shape_of)
            return
        body = decode(requests.CHAT, request.body)
        tier = prepare.tier(body.service_tier) if body.service_tier is not None else None
        pool, model = self._pool(body.model)
        if self.chains is not None:
            self.chains.take(
                request, exchange, caller, body, lambda again: self.chat(again, exchange, caller, shape_of)
            )
        if model is None:
            refuse_addresses(body.messages, self.media_hosts)
            if self.openings is None or not self.opens(
                body.model, request, exchange, lambda: self.chat(request, exchange, caller, shape_of)
            ):  # fmt: skip
                self._forward(request, exchange, caller, pool, tier, stream=bool(body.stream), shape_of=shape_of)
            return
        try:
            self._own(self._chat(request, exchange, caller, pool, model, body, shape_of))
        except Invalid as fault:
            if request.onward is None or not request.onward.outgrown(fault):
                raise

    def completion(self, request: Request, exchange: Outlet, caller: Caller | None) -> None:
        assert caller is not None
        if self.keeping is not None and LAST_EVENT_ID in request.headers:
            self.keeping.resumes.by_post(request, exchange, caller, None)
            return
        body = decode(requests.COMPLETION, request.body)
        tier = prepare.tier(body.service_tier) if body.service_tier is not None else None
        pool, model = self._pool(body.model)
        if self.chains is not None:
            self.chains.take(request, exchange, caller, body, lambda again: self.completion(again, exchange, caller))
        if model is None:
            if self.openings is None or not self.opens(
                body.model, request, exchange, lambda: self.completion(request, exchange, caller)
            ):  # fmt: skip
                self._forward(request, exchange, caller, pool, tier, stream=bool(body.stream))
            return
        try:
            self._own(self._completion(request, exchange, caller, pool, model, body))
        except Invalid as fault:
            if request.onward is None or not request.onward.outgrown(fault):
                raise

    def draft(self, request: Request, exchange: Outlet, caller: Caller, shape_of: ShapeOf | None) -> Draft | None:
        """What a request asks of our own workers; None: it is for another server. Raises Invalid."""
        if request.path == CHAT_PATH:
            body = decode(requests.CHAT, request.body)
            pool, model = self._pool(body.model)
            return self._chat(request, exchange, caller, pool, model, body, shape_of) if model is not None else None
        asked = decode(requests.COMPLETION, request.body)
        pool, model = self._pool(asked.model)
        return self._completion(request, exchange, caller, pool, model, asked) if model is not None else None

    def rejected(self, status: int) -> None:
        """A request was refused before it became a call."""
        self._metrics.rejected[status] += 1

    def _chat(
        self, request: Request, exchange: Outlet, caller: Caller, pool: Pool, model: prepare.Model, body: ChatRequest,
        shape_of: ShapeOf | None,
    ) -> Draft:  # fmt: skip
        refuse_repeated(request.body, requests.keys_in_messages(body))
        self._refuse_stream_options(body)
        context = self._roster.contexts[model.name]
        size = prepare.chat_text_size(body)
        prepare.refuse_oversize(size, context, "messages")
        asked = prepare.asked(body, model)
        talk = prepare.talk(body, model, asked)
        if talk is not None:
            asked = talk.asked

        def build() -> Work:
            return prepare.chat_work(body, model, context, self._rng, None if asked is None else asked.grammar, talk)

        def shape(id: str, created: int, fingerprint: str) -> Shape:
            if shape_of is not None:
                made = shape_of(id, body.model, fingerprint)
            else:
                made = ChatShape(f"chatcmpl-{id}", body.model, created, fingerprint, with_usage=with_usage(body))
            return made if talk is None else talk.shape(made, id)

        is_long = size > prepare.ASIDE_CHARS
        return self._draft(
            request, exchange, caller, pool, model, body, build, shape, is_long, shape_of is None, asked, talk
        )

    def _completion(
        self, request: Request, exchange: Outlet, caller: Caller, pool: Pool, model: prepare.Model, body: CompletionRequest
    ) -> Draft:  # fmt: skip
        refuse_repeated(request.body, keys_below=0)
        self._refuse_stream_options(body)
        context = self._roster.contexts[model.name]
        text = prepare.completion_text(body)
        prepare.refuse_oversize(len(text), context, "prompt")
        if body.echo and not isinstance(text, str):
            raise Invalid("'echo' needs the prompt as text", "echo")
        asked = prepare.asked(body, model)

        def build() -> Work:
            return prepare.completion_work(body, model, context, self._rng, None if asked is None else asked.grammar)

        def shape(id: str, created: int, fingerprint: str) -> Shape:
            echo = text if body.echo and isinstance(text, str) else ""
            return CompletionShape(
                f"cmpl-{id}", body.model, created, fingerprint, with_usage=with_usage(body), echo=echo
            )

        is_long = len(text) > prepare.ASIDE_CHARS
        return self._draft(request, exchange, caller, pool, model, body, build, shape, is_long, True, asked)

    def next_id(self) -> str:
        return next(self._ids)

    def manner(self, request: Request, caller: Caller) -> Manner:
        """How a request of an endpoint without service tiers is to be treated. Raises Invalid."""
        return self._manners.of(request, caller)

    def pass_on(self, request: Request, exchange: Outlet, caller: Caller, pool: Pool) -> None:
        """A request whose answer does not stream goes to another server as it is. Raises Invalid."""
        self._forward(request, exchange, caller, pool, None, stream=False)

    def _pool(self, name: str) -> tuple[Pool, prepare.Model | None]:
        pool, model = self.find(name)
        if model is not None and GENERATE not in model.tasks:
            raise reads_only(name)
        return pool, model

    def find(self, name: str) -> tuple[Pool, prepare.Model | None]:
        """The pool of a model, and what it takes to ask our own workers. Raises Invalid."""
        pool = self._roster.pools.get(name)
        if pool is None:
            base, adapter = self._roster.split(name)
            if adapter:
                pool, model = self.find(base)
                return pool, None if model is None else replace(model, adapter=adapter)
            if self.openings is not None and name in self.openings:
                raise no_worker(name, is_alone=not self.openings.is_awaited)
            raise no_worker(name) if name in self.models else no_model(name)
        # A model of ours that no worker has served yet can only be answered outside: it is forwarded.
        return pool, self.models.get(name) if name in self._roster.contexts else None

    def opens(self, name: str, request: Request, exchange: Outlet, again: Callable[[], None]) -> bool:
        """True: the model is ours but its vocabulary is still to be read, and the request comes in again when it is."""

        def come_again() -> None:
            if exchange.is_open:
                try:
                    again()
                except Invalid as fault:
                    self._refused_late(request, exchange, fault)
                except Exception:
                    log.exception("a request to %s met a mistake of ours", request.path)
                    self._metrics.rejected[500] += 1
                    exchange.answer(refusal(500, INTERNAL))

        waiting = Waiting(come_again, lambda fault: self._refused_late(request, exchange, fault))
        base, adapter = self._roster.split(name) if name not in self._roster.pools else (name, "")
        if self.openings is not None and self.openings.takes(base, waiting):
            return True
        if adapter:  # no other server has it
            raise no_worker(name)
        return False

    def _refused_late(self, request: Request, exchange: Outlet, fault: Invalid) -> None:
        """A refusal that came when whoever hears of it had long returned."""
        onward = request.onward
        if onward is not None and onward.allowance is not None:
            self._walks.gives_back(onward)
        self._metrics.rejected[fault.status] += 1
        exchange.answer(refusal(fault.status, fault.message, fault.param, fault.code))

    def _refuse_stream_options(self, body: ChatRequest | CompletionRequest) -> None:
        if body.stream_options is not None and not body.stream:
            raise Invalid("'stream_options' needs 'stream': true", "stream_options")

    def _forward(
        self, request: Request, exchange: Outlet, caller: Caller, pool: Pool, tier: Priority | None, *, stream: bool,
        shape_of: ShapeOf | None = None,
    ) -> None:  # fmt: skip
        refuse_repeated_route(request.body)
        manner, keeping = self._manners.of(request, caller, tier), self.keeping
        wish = keeping.wish(request) if keeping is not None and manner.asks_kept else None
        if keeping is None or wish is None or not wish.key:
            self.send(request, exchange, pool, manner, next(self._ids), stream=stream, shape_of=shape_of)
        else:
            keeping.forward(wish, Forwarding(self, request, exchange, manner, pool, stream, shape_of))

    def send(
        self, request: Request, exchange: Outlet, pool: Pool, manner: Manner, id: str, *, stream: bool,
        shape_of: ShapeOf | None = None, kept: Kept | None = None, said: bytes = b"",
    ) -> None:  # fmt: skip
        """A request that another server answers goes its way as call `id`. `kept` hears of it, `said` is added to the headers."""
        caller, prefix_tokens = manner.caller, pool.seats.router.prefix_tokens
        call = Call(
            id, pool.model, caller.tenant, manner.path, stream, self._clock.now(), manner.priority, manner.deadlines, None,
            request.body, manner.headers, caller.key_id, False, "", manner.local_only, manner.sensitivity,
            near.of_body(request.body, prefix_tokens) if prefix_tokens else 0, manner.region, manner.tells_queue,
        )  # fmt: skip
        if shape_of is not None:
            exchange = Translation(exchange, shape_of(id, pool.model, fingerprint_of(pool)), stream=stream)
        if kept is not None:
            exchange = Recorder(exchange, kept, self.keeping.rules.answer_bytes_max if self.keeping is not None else 0)
        box: Mailbox[Fact] = Mailbox()
        sink = ForwardSink(exchange, box, b"x-request-id: %s\r\n%s%s" % (id.encode(), manner.said, said))
        self._walks.begin(call, pool, sink, box, exchange, caller, kept, request.onward)

    def _draft(
        self, request: Request, exchange: Outlet, caller: Caller, pool: Pool, model: prepare.Model,
        body: ChatRequest | CompletionRequest, build: Callable[[], Work], shape: Shaping, is_long: bool,
        is_endpoints_own: bool, asked: Asked | None, talk: Talk | None = None,
    ) -> Draft:  # fmt: skip
        # What is wrong with its headers is said before the prompt is prepared.
        manner = self._manners.of(request, caller, prepare.tier(body.service_tier))
        if body.n is not None and body.n > 1:
            prepare.refuse_too_many(body.n, max((r.capacity.sequences for r in pool.seats.replicas), default=body.n))
        return Draft(
            request, exchange, caller, pool, model, body, build, shape, self._clock.now(), manner, is_long=is_long,
            is_endpoints_own=is_endpoints_own, asked=asked, talk=talk,
        )  # fmt: skip

    def launch(
        self, draft: Draft, work: Work, id: str, kept: Kept | None = None, start: Position | None = None, said: bytes = b""
    ) -> None:  # fmt: skip
        """A draft goes its way as call `id`, for our own workers. `kept`: it outlives this gateway; `start`: where its client
        is already; `said` is added to the headers."""
        request, body, exchange = draft.request, draft.body, draft.exchange
        manner, caller, pool = draft.manner, draft.caller, draft.pool
        call = Call(
            id, draft.model.name, caller.tenant, manner.path, bool(body.stream), draft.arrived_s, manner.priority,
            manner.deadlines, work, request.body if pool.gate is not None else b"", manner.headers, caller.key_id,
            kept is not None, "" if kept is None else kept.attach,
            manner.local_only or work.adapter != "" or (draft.talk is not None and draft.talk.has_calls), manner.sensitivity,
            near.of_call(pool.seats.router, body, work.prompt), manner.region, manner.tells_queue,
        )  # fmt: skip
        said = manner.said + said
        box: Mailbox[Fact] = Mailbox()
        if kept is None:
            sink = TokenSink(
                exchange, box, draft.shape(id, int(time.time()), fingerprint_of(draft.pool)), draft.model.vocabulary.piece,
                prepare.stops(body), n=work.n, stream=bool(body.stream), with_usage=with_usage(body),
                with_logprobs=work.sampling.logprobs is not None, tokens_in=len(work.prompt),
                headers=b"x-request-id: %s\r\n%s" % (id.encode(), said),
            )  # fmt: skip
        else:
            sink = KeptSink(
                exchange, box, draft.shape(id, kept.call.created, kept.call.fingerprint), draft.model.vocabulary.piece,
                prepare.stops(body), n=work.n, stream=bool(body.stream), with_usage=with_usage(body),
                with_logprobs=work.sampling.logprobs is not None, tokens_in=len(work.prompt),
                headers=b"x-request-id: %s\r\n%s" % (id.encode(), said), kept=kept, start=start,
                opening=self._opening() if draft.is_endpoints_own else b"",
            )  # fmt: skip
        self._walks.begin(call, draft.pool, sink, box, exchange, draft.caller, kept, request.onward)

    def _opening(self) -> bytes:
        """When a client is to reconnect, in milliseconds: not everybody at once."""
        retry_s = self.keeping.rules.retry_s if self.keeping is not None else 0.0
        return b"retry: %d\n" % int(1000 * retry_s * (1 + self._rng.random()))

    def _own(self, draft: Draft) -> None:
        keeping = self.keeping
        wish = keeping.wish(draft.request) if keeping is not None else None

        def go(work: Work) -> None:
            if keeping is None or wish is None:
                self.launch(draft, work, next(self._ids))
            else:
                keeping.keep(wish, draft, work, next(self._ids))

        if not draft.is_long and (draft.asked is None or self._may_be_asked(draft.asked)):
            go(draft.build())
        else:
            task = asyncio.get_running_loop().create_task(self._aside(draft, go))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _may_be_asked(self, asked: Asked) -> bool:
        """It is known that answers can be held to this grammar."""
        return self.grammars is not None and self.grammars.is_known(asked)

    async def _aside(self, draft: Draft, go: Callable[[Work], None]) -> None:
        """A long prompt is tokenised in a thread, so that nobody else's tokens wait for it; a grammar is looked at elsewhere."""
        exchange, onward = draft.exchange, draft.request.onward
        try:
            if draft.asked is not None and self.grammars is not None:
                await self.grammars.admit(draft.asked)
            loop = asyncio.get_running_loop()
            work = await loop.run_in_executor(None, draft.build) if draft.is_long else draft.build()
        except Invalid as fault:
            if onward is not None and onward.outgrown(fault):
                return
            self._refused_late(draft.request, exchange, fault)
            return
        except Exception:
            log.exception("a prompt could not be prepared")
            self._metrics.rejected[500] += 1
            exchange.answer(refusal(500, INTERNAL))
            return
        if exchange.is_open:
            go(work)


class Forwarding:
    """A request for another server that may be sent, as one call or another."""

    __slots__ = ("_calls", "_manner", "_shape_of", "exchange", "pool", "request", "stream")

    def __init__(
        self, calls: Calls, request: Request, exchange: Outlet, manner: Manner, pool: Pool, stream: bool,
        shape_of: ShapeOf | None,
    ) -> None:  # fmt: skip
        self._calls = calls
        self._shape_of = shape_of
        self.request = request
        self._manner = manner
        self.exchange = exchange
        self.pool = pool
        self.stream = stream

    @property
    def caller(self) -> Caller:
        return self._manner.caller

    def next_id(self) -> str:
        return next(self._calls._ids)

    def outlet(self, id: str) -> Outlet:
        """Where an answer that was kept is written to."""
        if self._shape_of is None:
            return self.exchange
        shape = self._shape_of(id, self.pool.model, fingerprint_of(self.pool))
        return Translation(self.exchange, shape, stream=self.stream)

    def send(self, id: str, kept: Kept, said: bytes) -> None:
        self._calls.send(
            self.request, self.exchange, self.pool, self._manner, id, stream=self.stream, shape_of=self._shape_of, kept=kept,
            said=said,
        )  # fmt: skip


def fingerprint_of(pool: Pool) -> str:
    replicas = pool.seats.replicas
    return f"fp_{replicas[0].fingerprint[:12]}" if replicas else "fp_none"


def with_usage(body: ChatRequest | CompletionRequest) -> bool:
    return body.stream_options is not None and body.stream_options.include_usage
