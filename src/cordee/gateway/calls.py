"""From a request to a call: the body read and checked, the pool found, the prompt tokenised, and the call sent on its walk."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from itertools import count
from random import Random

from cordee.domain.call import Call, Deadlines, Priority, Work
from cordee.domain.caller import Caller
from cordee.flow.facts import Fact
from cordee.flow.mailbox import Mailbox
from cordee.flow.pool import Pool
from cordee.gateway import prepare
from cordee.gateway.forward import ForwardSink
from cordee.gateway.metrics import Metrics
from cordee.gateway.replies import no_model, refusal
from cordee.gateway.roster import Roster
from cordee.gateway.sinks import TokenSink
from cordee.gateway.walk import Walks
from cordee.http.exchange import Exchange
from cordee.http.request import Request
from cordee.ports import Clock
from cordee.wire import requests
from cordee.wire.chat import ChatShape
from cordee.wire.completion import CompletionShape
from cordee.wire.errors import Invalid
from cordee.wire.requests import ChatRequest, CompletionRequest
from cordee.wire.shape import Shape
from cordee.wire.strict import decode, refuse_repeated, refuse_repeated_route

log = logging.getLogger(__name__)


class Calls:
    """Makes calls of requests. `models`: what this gateway tokenises itself, by name; the bodies of all others are forwarded."""

    def __init__(
        self, roster: Roster, walks: Walks, metrics: Metrics, clock: Clock, rng: Random, deadlines: Deadlines
    ) -> None:
        self.models: dict[str, prepare.Model] = {}
        self._roster = roster
        self._walks = walks
        self._metrics = metrics
        self._clock = clock
        self._rng = rng
        self._deadlines = deadlines
        self._ids = map(f"{secrets.token_hex(6)}{{:010x}}".format, count())
        self._tasks: set[asyncio.Task[None]] = set()

    def chat(self, request: Request, exchange: Exchange, caller: Caller | None) -> None:
        assert caller is not None
        body = decode(requests.CHAT, request.body)
        pool, model = self._pool(body.model)
        if model is None:
            self._forward(request, exchange, caller, pool, stream=bool(body.stream))
            return
        refuse_repeated(request.body, requests.keys_in_messages(body))
        self._refuse_stream_options(body)
        context = self._roster.contexts[model.name]
        size = prepare.chat_text_size(body)
        prepare.refuse_oversize(size, context, "messages")

        def build() -> Work:
            return prepare.chat_work(body, model, context, self._rng)

        def shape(id: str) -> Shape:
            return ChatShape(
                f"chatcmpl-{id}", body.model, int(time.time()), fingerprint_of(pool), with_usage=with_usage(body)
            )

        self._own(request, exchange, caller, pool, model, body, build, shape, aside=size > prepare.ASIDE_CHARS)

    def completion(self, request: Request, exchange: Exchange, caller: Caller | None) -> None:
        assert caller is not None
        body = decode(requests.COMPLETION, request.body)
        pool, model = self._pool(body.model)
        if model is None:
            self._forward(request, exchange, caller, pool, stream=bool(body.stream))
            return
        refuse_repeated(request.body, keys_below=0)
        self._refuse_stream_options(body)
        context = self._roster.contexts[model.name]
        text = prepare.completion_text(body)
        prepare.refuse_oversize(len(text), context, "prompt")
        if body.echo and not isinstance(text, str):
            raise Invalid("'echo' needs the prompt as text", "echo")

        def build() -> Work:
            return prepare.completion_work(body, model, context, self._rng)

        def shape(id: str) -> Shape:
            return CompletionShape(
                f"cmpl-{id}", body.model, int(time.time()), fingerprint_of(pool), with_usage=with_usage(body),
                echo=text if body.echo and isinstance(text, str) else "",
            )  # fmt: skip

        self._own(request, exchange, caller, pool, model, body, build, shape, aside=len(text) > prepare.ASIDE_CHARS)

    def _pool(self, name: str) -> tuple[Pool, prepare.Model | None]:
        pool = self._roster.pools.get(name)
        if pool is None:
            raise no_model(name)
        return pool, self.models.get(name)

    def _refuse_stream_options(self, body: ChatRequest | CompletionRequest) -> None:
        if body.stream_options is not None and not body.stream:
            raise Invalid("'stream_options' needs 'stream': true", "stream_options")

    def _forward(self, request: Request, exchange: Exchange, caller: Caller, pool: Pool, *, stream: bool) -> None:
        refuse_repeated_route(request.body)
        id, headers = next(self._ids), request.headers
        call = Call(
            id, pool.model, caller.tenant, request.path.decode(), stream, self._clock.now(),
            prepare.priority(request) if b"x-cordee-priority" in headers else Priority.STANDARD,
            prepare.deadlines(request, self._deadlines) if b"x-request-timeout" in headers else self._deadlines,
            None, request.body,
        )  # fmt: skip
        box: Mailbox[Fact] = Mailbox()
        sink = ForwardSink(exchange, box, b"x-request-id: %s\r\n" % id.encode())
        self._walks.begin(call, pool, sink, box, exchange, caller)

    def _own(
        self, request: Request, exchange: Exchange, caller: Caller, pool: Pool, model: prepare.Model,
        body: ChatRequest | CompletionRequest, build: Callable[[], Work], shape: Callable[[str], Shape], *, aside: bool,
    ) -> None:  # fmt: skip
        arrived_s = self._clock.now()
        deadlines, priority = prepare.deadlines(request, self._deadlines), prepare.priority(request)
        stops = prepare.stops(body)
        if body.n is not None and body.n > 1:
            prepare.refuse_too_many(body.n, max((r.capacity.sequences for r in pool.seats.replicas), default=body.n))

        def go(work: Work) -> None:
            id = next(self._ids)
            call = Call(
                id, model.name, caller.tenant, request.path.decode(), bool(body.stream), arrived_s, priority=priority,
                deadlines=deadlines, work=work,
            )  # fmt: skip
            box: Mailbox[Fact] = Mailbox()
            sink = TokenSink(
                exchange, box, shape(id), model.vocabulary.piece, stops, n=work.n, stream=bool(body.stream),
                with_usage=with_usage(body), with_logprobs=work.sampling.logprobs is not None, tokens_in=len(work.prompt),
                headers=b"x-request-id: %s\r\n" % id.encode(),
            )  # fmt: skip
            self._walks.begin(call, pool, sink, box, exchange, caller)

        if not aside:
            go(build())
        else:
            task = asyncio.get_running_loop().create_task(self._aside(build, go, exchange))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _aside(self, build: Callable[[], Work], go: Callable[[Work], None], exchange: Exchange) -> None:
        """A long prompt is tokenised in a thread, so that nobody else's tokens wait for it."""
        try:
            work = await asyncio.get_running_loop().run_in_executor(None, build)
        except Invalid as fault:
            self._metrics.rejected[fault.status] += 1
            exchange.answer(refusal(fault.status, fault.message, fault.param, fault.code))
            return
        except Exception:
            log.exception("a prompt could not be prepared")
            self._metrics.rejected[500] += 1
            exchange.answer(refusal(500, "an internal error ended this request; the log of this gateway says more"))
            return
        if exchange.is_open:
            go(work)


def fingerprint_of(pool: Pool) -> str:
    replicas = pool.seats.replicas
    return f"fp_{replicas[0].fingerprint[:12]}" if replicas else "fp_none"


def with_usage(body: ChatRequest | CompletionRequest) -> bool:
    return body.stream_options is not None and body.stream_options.include_usage
