"""The front door: which path leads where, who may pass, and how a request becomes a call and a call an answer."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from itertools import count
from random import Random
from typing import assert_never
from urllib.parse import unquote_to_bytes

from cordee.domain.call import Call, Deadlines, Priority, Work
from cordee.domain.caller import INFERENCE, Caller
from cordee.domain.outcome import Refusal, Why
from cordee.flow.answer import Answer, Counts
from cordee.flow.facts import CLOSING, Fact
from cordee.flow.mailbox import Mailbox
from cordee.flow.pool import Pool
from cordee.flow.serve import Abandoned, Served, Trip, outcome, serve
from cordee.flow.watch import Watch
from cordee.gateway import prepare
from cordee.gateway.metrics import CONTENT_TYPE, Metrics
from cordee.gateway.roster import Roster
from cordee.gateway.sinks import JSON, ForwardSink, TokenSink
from cordee.http.exchange import Answer as HttpAnswer
from cordee.http.exchange import Exchange
from cordee.http.request import Rejection, Request
from cordee.policy.after import Stop
from cordee.policy.rate import Rates
from cordee.ports import Clock, Directory
from cordee.wire import errors, models, requests
from cordee.wire.chat import ChatShape
from cordee.wire.completion import CompletionShape
from cordee.wire.errors import Invalid
from cordee.wire.requests import ChatRequest, CompletionRequest
from cordee.wire.shape import Shape
from cordee.wire.strict import decode, refuse_repeated, refuse_repeated_route

log = logging.getLogger(__name__)

OPEN_PATHS = frozenset({b"/healthz", b"/readyz", b"/metrics"})
CHAT, COMPLETIONS, MODELS = b"/v1/chat/completions", b"/v1/completions", b"/v1/models"
BEARER = b"bearer "
OTHER_KEY_HEADERS = {b"x-api-key", b"api-key"}
KNOWN_MAX = 1024  # keys remembered for at most a second
NO_KEY = (
    "you did not provide an API key: send it in the Authorization header, as 'Authorization: Bearer KEY'; "
    "`cordee keys create NAME` makes one"
)
TEXT = b"content-type: text/plain; charset=utf-8\r\n"


class Front:
    """http.server.Handler of a gateway."""

    def __init__(
        self, roster: Roster, directory: Directory, watch: Watch, metrics: Metrics, counts: Counts, clock: Clock, rng: Random,
        deadlines: Deadlines,
    ) -> None:  # fmt: skip
        self.models: dict[str, prepare.Model] = {}
        self.is_draining = False
        self._roster = roster
        self._directory = directory
        self._watch = watch
        self._metrics = metrics
        self._counts = counts
        self._clock = clock
        self._rng = rng
        self._deadlines = deadlines
        self._rates = Rates()
        self._known: dict[bytes, Caller] = {}
        self._started = int(time.time())
        self._ids = map(f"{secrets.token_hex(6)}{{:010x}}".format, count())
        self._tasks: set[asyncio.Task[None]] = set()

    # -- http.server.Handler

    def admit(self, request: Request) -> HttpAnswer | None:
        if request.path in OPEN_PATHS:
            return None
        known = self._known.get(request.headers.get(b"authorization", b""))
        if known is not None and not OTHER_KEY_HEADERS & request.headers.keys():
            request.caller = known
            return None
        key = presented_key(request)
        if isinstance(key, HttpAnswer):
            self._metrics.rejected[key.status] += 1
            return key
        caller = self._directory.identify(key)
        if caller is None:
            self._metrics.rejected[401] += 1
            return refusal(401, "incorrect API key provided", code=Why.BAD_KEY.value)
        if INFERENCE not in caller.scopes:
            self._metrics.rejected[403] += 1
            return refusal(403, f"this key lacks the scope {INFERENCE!r}", code=Why.NO_SCOPE.value)
        request.caller = caller
        authorization = request.headers.get(b"authorization")
        if authorization is not None and len(self._known) < KNOWN_MAX:
            self._known[authorization] = caller
        return None

    def forget_keys(self) -> None:
        """Identify everybody anew: called every second and when keys have changed, so that no key stays in memory and a
        revoked one is refused."""
        self._known.clear()

    def handle(self, request: Request, exchange: Exchange) -> None:
        caller = request.caller
        if isinstance(caller, HttpAnswer):
            exchange.answer(caller)
            return
        try:
            if request.path == CHAT or request.path == COMPLETIONS:
                if request.method != b"POST":
                    raise Invalid(f"use POST for {request.path.decode()}", status=405)
                assert isinstance(caller, Caller)
                if request.path == CHAT:
                    self._chat(request, exchange, caller)
                else:
                    self._completion(request, exchange, caller)
            else:
                exchange.answer(self._get(request))
        except Invalid as fault:
            self._metrics.rejected[fault.status] += 1
            exchange.answer(refusal(fault.status, fault.message, fault.param, fault.code))
        except Exception:
            log.exception("a request to %s met a mistake of ours", request.path)
            self._metrics.rejected[500] += 1
            exchange.answer(refusal(500, "an internal error ended this request; the log of this gateway says more"))

    def rejected(self, rejection: Rejection) -> HttpAnswer:
        self._metrics.rejected[rejection.status] += 1
        return refusal(rejection.status, rejection.message)

    async def drain(self, patience_s: float) -> None:
        """Wait for the calls in flight; those that last longer than `patience_s` are ended with an error."""
        self.is_draining = True
        try:
            async with asyncio.timeout(patience_s):
                while self._watch.open:
                    await asyncio.sleep(DRAIN_LOOK_S)
        except TimeoutError:
            log.warning("%d calls did not end within %g s and are broken off", len(self._watch.open), patience_s)
            for answer in list(self._watch.open):
                answer.box.post(CLOSING)

    # -- what there is to see

    def _get(self, request: Request) -> HttpAnswer:
        path = request.path
        known = path in OPEN_PATHS or path == MODELS or path.startswith(MODELS + b"/")
        if not known:
            raise Invalid(
                f"unknown path: {request.method.decode()} {path[:100].decode('ascii', 'replace')}", status=404
            )
        if request.method != b"GET":
            raise Invalid(f"use GET for {path[:100].decode('ascii', 'replace')}", status=405)
        if path == b"/healthz":
            return HttpAnswer(200, TEXT, b"ok\n")
        if path == b"/readyz":
            if self.is_draining or not self._roster.is_ready:
                return HttpAnswer(503, TEXT, b"draining\n" if self.is_draining else b"no replica is ready\n")
            return HttpAnswer(200, TEXT, b"ready\n")
        if path == b"/metrics":
            return HttpAnswer(200, CONTENT_TYPE, self._metrics.page())
        if path == MODELS:
            return HttpAnswer(200, JSON, models.listing(list(self._roster.pools), self._started))
        name = unquote_to_bytes(path[len(MODELS) + 1 :]).decode("utf-8", "replace")
        if name not in self._roster.pools:
            raise no_model(name)
        return HttpAnswer(200, JSON, models.one(name, self._started))

    # -- calls

    def _chat(self, request: Request, exchange: Exchange, caller: Caller) -> None:
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

    def _completion(self, request: Request, exchange: Exchange, caller: Caller) -> None:
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
        self._begin(call, pool, sink, box, exchange, caller)

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
            self._begin(call, pool, sink, box, exchange, caller)

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

    def _begin(
        self,
        call: Call,
        pool: Pool,
        sink: TokenSink | ForwardSink,
        box: Mailbox[Fact],
        exchange: Exchange,
        caller: Caller,
    ) -> None:
        refused = self._rates.ask(call.arrived_s, caller)
        if refused is not None:
            self._metrics.rejected[errors.STATUS[refused.why]] += 1
            exchange.answer(refusal_of(refused))
            return
        answer = Answer(call, sink, box, self._clock, self._counts)
        if isinstance(sink, ForwardSink):
            sink.answer = answer
        exchange.listener = sink
        self._watch.add(answer)
        box.run(self._walk(call, answer, pool, sink, caller))

    async def _walk(
        self, call: Call, answer: Answer, pool: Pool, sink: TokenSink | ForwardSink, caller: Caller
    ) -> None:  # fmt: skip
        trip = Trip()
        try:
            result = await serve(call, answer, pool, trip)
        except Exception:
            log.exception("call %s met a mistake of ours", call.id)
            answer.stop()
            result = Stop(Why.REPLICA, "an internal error ended this call; its id is in the log")
        self._watch.remove(answer)
        self._rates.left(caller)
        match result:
            case Served():
                sink.complete()
            case Refusal():
                sink.fail(*failure(result.why, result.message, result.retry_after_s))
            case Stop():
                sink.fail(*failure(result.why, result.message, None))
            case Abandoned():
                pass
            case _:
                assert_never(result)
        self._metrics.append(outcome(call, answer, trip, result, self._clock.now()))


DRAIN_LOOK_S = 0.02


def presented_key(request: Request) -> bytes | HttpAnswer:
    """The key in the Authorization header, or in X-Api-Key or Api-Key; two different ones are refused."""
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
    if not found:
        return refusal(401, NO_KEY, code=Why.BAD_KEY.value)
    if len(found) > 1:
        return refusal(400, "two different API keys were sent; send one", "Authorization")
    return found.pop()


def refusal(status: int, message: str, param: str | None = None, code: str | None = None) -> HttpAnswer:
    extra = b"www-authenticate: Bearer\r\n" if status == 401 else b""
    return HttpAnswer(status, JSON + extra, errors.body(status, message, param, code))


def refusal_of(refused: Refusal) -> HttpAnswer:
    status, body, headers = failure(refused.why, refused.message, refused.retry_after_s)
    return HttpAnswer(status, JSON + headers, body)


def failure(why: Why, message: str, retry_after_s: float | None) -> tuple[int, bytes, bytes]:
    """Status, body and further headers of a call that was not served."""
    status = errors.STATUS[why]
    return status, errors.body(status, message, None, why.value), errors.retry_after(retry_after_s)


def no_model(name: str) -> Invalid:
    return Invalid(
        f"the model {name[:100]!r} does not exist or you do not have access to it; GET /v1/models lists those there are",
        "model",
        code=Why.NO_MODEL.value,
        status=404,
    )


def fingerprint_of(pool: Pool) -> str:
    replicas = pool.seats.replicas
    return f"fp_{replicas[0].fingerprint[:12]}" if replicas else "fp_none"


def with_usage(body: ChatRequest | CompletionRequest) -> bool:
    return body.stream_options is not None and body.stream_options.include_usage
