"""The endpoints of tasks: the body read, the model found, the texts tokenised, and the call sent on its walk like any other.

A model that another server has is asked there, with the body as it came. Our own are asked for items; such a call never leaves this
installation, because another model's numbers are of no use beside these.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from msgspec.json import Decoder
from prometheus_client.core import CounterMetricFamily, Metric

from cordee.domain.call import Call, Task
from cordee.domain.caller import Caller
from cordee.flow.facts import Fact
from cordee.flow.mailbox import Mailbox
from cordee.flow.pool import Pool
from cordee.gateway.calls import INTERNAL, Calls
from cordee.gateway.kept.call import Kept
from cordee.gateway.kept.recorder import Recorder
from cordee.gateway.manner import Manner
from cordee.gateway.paths import Paths
from cordee.gateway.prepare import ASIDE_CHARS, Model
from cordee.gateway.replies import refusal
from cordee.gateway.roster import Roster
from cordee.gateway.tasks import items, paths
from cordee.gateway.tasks.items import Made
from cordee.gateway.tasks.sink import TaskSink
from cordee.gateway.walk import Walks
from cordee.http.exchange import Outlet
from cordee.http.request import Request
from cordee.ports import Clock
from cordee.wire import embeddings, evaluate, rerank, score
from cordee.wire.embeddings import EmbeddingsRequest
from cordee.wire.errors import Invalid
from cordee.wire.evaluate import EvaluateRequest
from cordee.wire.rerank import RerankRequest
from cordee.wire.score import ScoreRequest
from cordee.wire.strict import decode, refuse_repeated_route

if TYPE_CHECKING:
    from cordee.gateway.kept.keeping import Keeping

log = logging.getLogger(__name__)
READS = (Task.EMBED.value, Task.RANK.value)
WHERE_ELSE = {
    Task.EMBED.value: "POST /v1/embeddings, /v1/rerank and /v1/score with text_1 and text_2",
    Task.RANK.value: "POST /v1/rerank and /v1/score with text_1 and text_2",
    Task.SCORE.value: "POST /v1/score with prompt, and /v1/evaluate",
    Task.GENERATE.value: "POST /v1/chat/completions and /v1/completions",
}

Body = EmbeddingsRequest | RerankRequest | ScoreRequest | EvaluateRequest
Asked = TypeVar("Asked", EmbeddingsRequest, RerankRequest, ScoreRequest, EvaluateRequest)
Make = Callable[[Asked, Model, int], Made]


class Tasks:
    """The endpoints of one gateway. `keeping`: who remembers repeatable requests, None where nobody does."""

    def __init__(self, calls: Calls, roster: Roster, walks: Walks, clock: Clock) -> None:
        self._calls = calls
        self._roster = roster
        self._walks = walks
        self._clock = clock
        self._items: Counter[tuple[str, str]] = Counter()  # by model and task
        self._tasks: set[asyncio.Task[None]] = set()

    def join(self, known: Paths) -> None:
        """Be found from now on."""
        known.add(b"POST", paths.EMBEDDINGS, self.embeddings)
        known.add(b"POST", paths.RERANK, self.rerank)
        known.add(b"POST", paths.SCORE, self.score)
        known.add(b"POST", paths.EVALUATE, self.evaluate)

    def embeddings(self, request: Request, exchange: Outlet, caller: Caller | None) -> None:
        self._ask(embeddings.EMBEDDINGS, items.embed, (Task.EMBED.value,), request, exchange, caller)

    def rerank(self, request: Request, exchange: Outlet, caller: Caller | None) -> None:
        self._ask(rerank.RERANK, items.rank, READS, request, exchange, caller)

    def score(self, request: Request, exchange: Outlet, caller: Caller | None) -> None:
        body = decode(score.SCORE, request.body)
        if score.is_likeness(body):
            self._answer(body, items.compare, READS, request, exchange, caller)
        else:
            self._answer(body, items.probability, (Task.SCORE.value,), request, exchange, caller)

    def evaluate(self, request: Request, exchange: Outlet, caller: Caller | None) -> None:
        self._ask(evaluate.EVALUATE, items.verdict, (Task.SCORE.value,), request, exchange, caller)

    def metrics(self) -> Iterable[Metric]:
        counts = CounterMetricFamily(
            "cordee_task_items",
            "Texts asked of own workers for vectors, comparisons or scores.",
            labels=["model", "task"],
        )
        for (model, task), count in self._items.items():
            counts.add_metric([model, task], count)
        yield counts

    # -- inside

    def _ask(
        self, decoder: Decoder[Asked], make: Make[Asked], tasks: Sequence[str], request: Request, exchange: Outlet,
        caller: Caller | None,
    ) -> None:  # fmt: skip
        self._answer(decode(decoder, request.body), make, tasks, request, exchange, caller)

    def _answer(
        self, body: Asked, make: Make[Asked], tasks: Sequence[str], request: Request, exchange: Outlet, caller: Caller | None
    ) -> None:  # fmt: skip
        assert caller is not None
        refuse_repeated_route(request.body)
        pool, model = self._calls.find(body.model)
        if model is None:
            again = lambda: self._answer(body, make, tasks, request, exchange, caller)  # noqa: E731  # the request comes in again
            if not self._calls.opens(body.model, request, exchange, again):
                self._calls.pass_on(request, exchange, caller, pool)
            return
        if not any(task in model.tasks for task in tasks):
            raise not_for_this(model)
        manner = self._calls.manner(request, caller)  # what is wrong with the head is said before anything is prepared
        context = self._roster.contexts[model.name]
        draft = _Draft(self, request, exchange, manner, pool, self._clock.now())
        if items.chars_in(body) <= ASIDE_CHARS:
            draft.goes(make(body, model, context))
            return
        task = asyncio.get_running_loop().create_task(self._aside(draft, lambda: make(body, model, context)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _aside(self, draft: _Draft, make: Callable[[], Made]) -> None:
        """Much text is tokenised in a thread, so that nobody else's answers wait for it."""
        exchange = draft.exchange
        try:
            made = await asyncio.get_running_loop().run_in_executor(None, make)
            if exchange.is_open:
                draft.goes(made)
        except Invalid as fault:
            self._calls.rejected(fault.status)
            exchange.answer(refusal(fault.status, fault.message, fault.param, fault.code))
        except Exception:
            log.exception("a task could not be prepared")
            self._calls.rejected(500)
            exchange.answer(refusal(500, INTERNAL))

    def launch(self, draft: _Draft, made: Made, id: str, kept: Kept | None, said: bytes) -> None:
        """It goes its way as call `id`. `kept` hears of it, `said` is added to the headers."""
        manner, work, exchange = draft.manner, made.work, draft.exchange
        caller, pool = manner.caller, draft.pool
        self._items[pool.model, work.task.value] += len(work.items)
        call = Call(
            id, pool.model, caller.tenant, manner.path, False, draft.arrived_s, manner.priority, manner.deadlines, work,
            headers=manner.headers, key_id=caller.key_id, local_only=True, sensitivity=manner.sensitivity,
            region=manner.region,
        )  # fmt: skip
        keeping = self._calls.keeping
        if kept is not None and keeping is not None:
            exchange = Recorder(exchange, kept, keeping.rules.answer_bytes_max)
        box: Mailbox[Fact] = Mailbox()
        headers = b"x-request-id: %s\r\n%s%s" % (id.encode(), manner.said, said)
        sink = TaskSink(exchange, box, id, made.answer, work.tokens_in, headers)
        self._walks.begin(call, pool, sink, box, exchange, caller, kept)

    def next_id(self) -> str:
        return self._calls.next_id()

    @property
    def keeping(self) -> Keeping | None:
        return self._calls.keeping


class _Draft:
    """A task that may be asked of our own workers, as one call or another. What of it is kept is its body, as another server's
    answer would be: gateway.kept.keeping.Repeatable."""

    __slots__ = ("_made", "_tasks", "arrived_s", "exchange", "manner", "pool", "request", "stream")

    def __init__(
        self, tasks: Tasks, request: Request, exchange: Outlet, manner: Manner, pool: Pool, arrived_s: float
    ) -> None:
        self._tasks = tasks
        self._made: Made | None = None
        self.request = request
        self.exchange = exchange
        self.manner = manner
        self.pool = pool
        self.arrived_s = arrived_s
        self.stream = False

    def goes(self, made: Made) -> None:
        """Raises Invalid."""
        most = max((replica.capacity.sequences for replica in self.pool.seats.replicas), default=made.work.n)
        if made.work.n > most:
            raise Invalid(
                f"this model's workers take {most} texts at once, and these are {made.work.n}; send fewer", made.param
            )
        self._made = made
        keeping = self._tasks.keeping
        wish = keeping.wish(self.request) if keeping is not None and self.manner.asks_kept else None
        if keeping is None or wish is None or not wish.key:
            self._tasks.launch(self, made, self._tasks.next_id(), None, b"")
        else:
            keeping.forward(wish, self)

    @property
    def caller(self) -> Caller:
        return self.manner.caller

    def next_id(self) -> str:
        return self._tasks.next_id()

    def outlet(self, id: str) -> Outlet:
        """Where an answer that was kept is written to."""
        return self.exchange

    def send(self, id: str, kept: Kept, said: bytes) -> None:
        assert self._made is not None
        self._tasks.launch(self, self._made, id, kept, said)


def not_for_this(model: Model) -> Invalid:
    """The model cannot do what is asked of it."""
    can = "; ".join(WHERE_ELSE[task] for task in model.tasks)
    return Invalid(f"the model {model.name!r} is not for this; it answers {can}", "model", "unsupported_task")
