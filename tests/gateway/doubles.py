"""A whole gateway on a loopback port, with a directory, a vocabulary and a worker that exist in memory only."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from array import array
from collections.abc import Callable, Sequence
from random import Random
from types import TracebackType
from typing import Any

import uvloop

from cordee.adapters.clock import LoopClock
from cordee.domain.call import Call, Deadlines
from cordee.domain.caller import INFERENCE, Allowances, Caller
from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.domain.replica import Capacity, Load, ReplicaKind
from cordee.flow.answer import Counts
from cordee.flow.watch import Watch
from cordee.gateway.calls import Calls
from cordee.gateway.front import Front
from cordee.gateway.metrics import Metrics
from cordee.gateway.prepare import Model
from cordee.gateway.roster import PoolRules, Roster
from cordee.gateway.walk import Walks
from cordee.http.request import Limits
from cordee.http.server import Server
from cordee.policy.after import AttemptRules
from cordee.policy.breaker import BreakerRules
from cordee.policy.retry import RetryRules
from cordee.policy.route import Replica
from cordee.policy.seats import SeatRules
from cordee.policy.session import SignIn
from cordee.ports import Receiver
from cordee.wire.template import Template

PATIENCE_S = 30.0
CONTEXT = 4096
CONTROLS = ("<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
KEY, OTHER_KEY = "sk-good", "sk-other"
CALLERS = {
    KEY: Caller("k1", "acme", grant="mark"),
    OTHER_KEY: Caller("k2", "acme", grant="mark"),
    "sk-narrow": Caller("k3", "acme", frozenset(), grant="mark"),
    "sk-rare": Caller("k4", "acme", frozenset({INFERENCE}), Allowances(requests_per_minute=1)),
    "sk-single": Caller("k5", "acme", frozenset({INFERENCE}), Allowances(concurrent_calls=1)),
}


class Bytes:
    """A vocabulary of one token a byte, and the control tokens behind them."""

    size = 256 + len(CONTROLS)

    def encode(self, text: str, *, special: bool, start: bool = False) -> array[int]:
        ids: array[int] = array("I")
        while text:
            control = next((c for c in CONTROLS if special and text.startswith(c)), None)
            ids.extend([256 + CONTROLS.index(control)] if control else list(text[0].encode()))
            text = text[len(control) if control else 1 :]
        return ids

    def whole(self, text: str) -> array[int]:
        return self.encode(text, special=False)

    def pair(self, first: str, second: str) -> array[int]:
        return self.encode(first + second, special=False)

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b""

    def control_strings(self) -> Sequence[str]:
        return CONTROLS

    def chat_template(self) -> str:
        return TEMPLATE

    def template_tokens(self) -> dict[str, str]:
        return {"bos_token": "", "eos_token": "<|im_end|>"}


class Running:
    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def cancel(self) -> None:
        self._worker.cancelled.set()

    def detach(self) -> None:
        self.cancel()


class Worker:
    """Port Upstream: says `text`, one token a byte, in a later pass of the loop; unless `act` does something else first."""

    def __init__(self) -> None:
        self.text = "Hello é!"
        self.calls: list[Call] = []
        self.act: Callable[[Receiver, int], bool] = lambda receiver, attempt: False
        self.cancelled = threading.Event()

    def start(
        self, call: Call, attempt: int, outputs: Sequence[array[int]], done: frozenset[int], remaining_s: float,
        receiver: Receiver,
        sent: Sequence[bytes] = (),
    ) -> Running:  # fmt: skip
        self.calls.append(call)
        counts = [len(output) for output in outputs]
        asyncio.get_running_loop().call_soon(self._answer, call, attempt, counts, done, receiver)
        return Running(self)

    def _answer(self, call: Call, attempt: int, sent: list[int], done: frozenset[int], receiver: Receiver) -> None:
        receiver.accepted()
        if self.act(receiver, attempt):
            return
        work = call.work
        assert work is not None
        data = self.text.encode()
        length = min(len(data), work.max_tokens)
        for choice in set(range(work.n)) - done:
            for index in range(sent[choice], length):
                others = tuple((alternative, -2.0) for alternative in range(work.sampling.logprobs or 0))
                given = TokenLogprobs(-0.5, others) if work.sampling.logprobs is not None else None
                receiver.token(choice, index, data[index], given)
            receiver.finish(choice, length, Finish.STOP if length == len(data) else Finish.LENGTH)


class Directory:
    """Nobody here has signed in."""

    def identify(self, key: bytes) -> Caller | None:
        return CALLERS.get(key.decode("latin-1"))

    def holder(self, key_id: str) -> tuple[Caller, str] | None:
        return next(((caller, key) for key, caller in CALLERS.items() if caller.key_id == key_id), None)

    def sign_in(self, token: bytes, scopes: frozenset[str], now: float) -> SignIn | None:
        return None

    def signed_in(self, user: str, sign_in: SignIn, began_s: float) -> tuple[Caller, str] | None:
        return None


class Gateway:
    """`with Gateway() as gateway:` — `gateway.worker` decides what is answered."""

    def __init__(self, seats: SeatRules | None = None, sequences: int = 8, body_bytes_max: int = 1 << 20) -> None:
        self.worker = Worker()
        self.front: Front
        self.calls: Calls
        self.watch: Watch
        self.server: Server
        self.replica: Replica
        self.metrics: Metrics
        self.port = 0
        self.faults: list[str] = []
        self._rules = PoolRules(seats or SeatRules(), AttemptRules(), RetryRules(), BreakerRules(), 64)
        self._sequences = sequences
        self._limits = Limits(body_bytes_max=body_bytes_max)
        self._loop = uvloop.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Gateway:
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.call(self.server.abort)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def call(self, what: Callable[[], Any]) -> Any:
        """Run something on the loop, and return what it returned."""
        done, results = threading.Event(), []

        def run() -> None:
            results.append(what())
            done.set()

        self._loop.call_soon_threadsafe(run)
        assert done.wait(PATIENCE_S)
        return results[0]

    def ask(
        self, body: dict[str, Any] | bytes, path: str = "/v1/chat/completions", method: str = "POST", key: str | None = KEY,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:  # fmt: skip
        """Status, headers and body of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            sent = {**({"Authorization": f"Bearer {key}"} if key is not None else {}), **(headers or {})}
            connection.request(method, path, body if isinstance(body, bytes) else json.dumps(body), sent)
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(lambda loop, context: self.faults.append(str(context)))
        self._loop.run_until_complete(self._build())
        self._ready.set()
        self._loop.run_forever()

    async def _build(self) -> None:
        clock, rng, counts = LoopClock(asyncio.get_running_loop()), Random(1), Counts()
        roster = Roster(self._rules, clock, rng)
        watch = Watch(clock, roster.pools.values())
        self.metrics = Metrics(roster, watch, counts)
        self.watch = watch
        walks = Walks(watch, self.metrics, counts, clock)
        self.calls = Calls(roster, walks, self.metrics, clock, rng, Deadlines())
        self.front = Front(roster, Directory(), self.calls, walks, self.metrics)
        vocabulary = Bytes()
        self.calls.models["m"] = Model("m", vocabulary, Template(vocabulary))
        capacity = Capacity(self._sequences, 100_000)
        self.replica = Replica("w1", ReplicaKind.LINK, capacity, "0123456789abcdef", roster.breaker(), exact=True)
        self.replica.ready = True
        roster.pool("m").join(self.replica, self.worker)
        roster.contexts["m"] = CONTEXT
        self.server = Server(self.front, self._limits)
        await self.server.listen("127.0.0.1", 0)
        self.port = self.server.addresses[0][1]
        self._roster = roster

    def report(self) -> None:
        """What a worker reports: it has seen all that was sent, and has nothing left."""
        self.call(lambda: self._roster.pools["m"].reported(self.replica, Load(seen=self.replica.sent)))
