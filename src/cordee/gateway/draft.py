"""A request that was understood and may be answered, but is no call yet."""

from __future__ import annotations

from collections.abc import Callable

from cordee.domain.call import Work
from cordee.domain.caller import Caller
from cordee.flow.pool import Pool
from cordee.gateway.manner import Manner
from cordee.gateway.prepare import Model
from cordee.http.exchange import Outlet
from cordee.http.request import Request
from cordee.wire.grammar import Asked
from cordee.wire.requests import ChatRequest, CompletionRequest
from cordee.wire.shape import Shape
from cordee.wire.talk import Talk

Shaping = Callable[
    [str, int, str], Shape
]  # of the call's id, when it was created (Unix seconds), the model's fingerprint


class Draft:
    """`build` makes the work for our own workers, and may take its time; `shape` the format of the answer. `is_endpoints_own`:
    that format is the endpoint's, not another protocol's. `is_long`: the work is made beside the event loop. `asked`: what the
    answer has to be, None for any text; `talk`: how it is to be read, None where it is text and nothing else."""

    __slots__ = (
        "arrived_s", "asked", "body", "build", "caller", "exchange", "is_endpoints_own", "is_long", "manner", "model", "pool",
        "request", "shape", "talk",
    )  # fmt: skip

    def __init__(
        self, request: Request, exchange: Outlet, caller: Caller, pool: Pool, model: Model,
        body: ChatRequest | CompletionRequest, build: Callable[[], Work], shape: Shaping, arrived_s: float,
        manner: Manner, *, is_long: bool, is_endpoints_own: bool, asked: Asked | None = None,
        talk: Talk | None = None,
    ) -> None:  # fmt: skip
        self.request = request
        self.exchange = exchange
        self.caller = caller
        self.pool = pool
        self.model = model
        self.body = body
        self.build = build
        self.shape = shape
        self.arrived_s = arrived_s
        self.manner = manner
        self.is_long = is_long
        self.is_endpoints_own = is_endpoints_own
        self.asked = asked
        self.talk = talk
