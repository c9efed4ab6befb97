"""A provider as a replica: what goes out, what comes back, and that every attempt is settled exactly once."""

from __future__ import annotations

import asyncio
import json
import threading
from array import array
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import uvloop

from cordee.adapters.upstreams.cloud import Cloud
from cordee.adapters.upstreams.cloud_request import Rules, may_take, most_tokens, request
from cordee.adapters.upstreams.endpoint import Endpoint
from cordee.adapters.upstreams.providers import ALIBABA, OPENAI
from cordee.domain.call import Call, Grammar, Sampling, Syntax, Work
from cordee.domain.chunk import Finish
from cordee.domain.replica import Continuation
from tests.adapters.receiver import Recorder
from tests.rehearsal.provider import KEY, WORDS, Manner, State, one, words

TEXT = "".join(words())
RULES = Rules(ALIBABA, {"m": "qwen-plus"}, tokens_max=50)
PATIENCE_S = 30.0


class Account:
    """What was settled, by call."""

    def __init__(self) -> None:
        self.bills: list[tuple[str, int, int]] = []
        self.refusals: list[str] = []
        self.rests: list[float] = []

    def settle(self, call_id: str, tokens_in: int, tokens_out: int) -> None:
        self.bills.append((call_id, tokens_in, tokens_out))

    def refused(self, call_id: str) -> None:
        self.refusals.append(call_id)

    def rest(self, for_s: float) -> None:
        self.rests.append(for_s)


class Outside:
    """The provider of the rehearsals on a loop of its own thread."""

    def __init__(self) -> None:
        self.state = State()
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Outside:
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        def end() -> None:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.call_soon(self._loop.stop)

        self._loop.call_soon_threadsafe(end)
        self._thread.join(PATIENCE_S)

    def _run(self) -> None:
        async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while await one(reader, writer, self.state):
                    pass
            except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
                pass
            finally:
                writer.close()

        async def begin() -> None:
            server = await asyncio.start_server(client, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            self._ready.set()

        self._loop.run_until_complete(begin())
        self._loop.run_forever()


@pytest.fixture(scope="module")
def outside() -> Iterator[Outside]:
    with Outside() as outside:
        yield outside


def call(*, own: bool, stream: bool = True, **more: Any) -> Call:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream, **more}
    work = Work(array("I", [1, 2, 3]), 40) if own else None
    return Call("c1", "m", "t", "/v1/chat/completions", stream, 0.0, work=work, body=json.dumps(body).encode())


def tried(
    outside: Outside, asked: Call, manner: Manner, *, sent: tuple[bytes, ...] = (), key: str = KEY,
    first_token_s: float = PATIENCE_S, until: Callable[[Recorder], bool] | None = None,
) -> tuple[Recorder, Account, dict[str, Any]]:  # fmt: skip
    """One attempt to its end, or until `until`; then it is cancelled."""
    outside.state.manner = manner
    outside.state.seen.clear()

    async def go() -> tuple[Recorder, Account]:
        account, recorder = Account(), Recorder()
        endpoint = Endpoint(f"http://127.0.0.1:{outside.port}/compatible-mode/v1", key, "house")
        cloud = Cloud("outer", endpoint, RULES, Continuation.TEXT, first_token_s, account)
        running = cloud.start(asked, 1, (), frozenset(), 60.0, recorder, sent)
        async with asyncio.timeout(PATIENCE_S):
            while not (recorder.end or recorder.whys or (until is not None and until(recorder))):
                await asyncio.sleep(0.002)
        running.cancel()
        running.cancel()
        return recorder, account

    recorder, account = run(go)
    assert len(account.bills) == 1, "every attempt is settled once"
    return recorder, account, outside.state.seen[0] if outside.state.seen else {}


def run(what: Callable[[], Awaitable[Any]]) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(what())  # type: ignore[arg-type]


@pytest.mark.parametrize("stream", [True, False])
def test_a_call_of_our_own_models_comes_back_as_text(outside, stream):
    recorder, account, seen = tried(outside, call(own=True, stream=stream), Manner())
    assert recorder.texts == {0: TEXT}
    assert recorder.whys == {0: Finish.STOP}
    assert recorder.used == (10, WORDS)
    assert recorder.headers == {b"x-cordee-served-by": b"cloud/outer"}
    assert account.bills == [("c1", 10, WORDS)]
    assert seen["headers"]["x-cordee-via"] == "house"


@pytest.mark.parametrize("wants_usage", [True, False])
def test_a_forwarded_stream_comes_back_as_events_with_usage_only_for_who_asked(outside, wants_usage):
    more: dict[str, Any] = {"stream_options": {"include_usage": True}} if wants_usage else {}
    recorder, account, seen = tried(outside, call(own=False, **more), Manner())
    events = b"".join(recorder.pieces).split(b"\n\n")
    assert recorder.end == "complete"
    assert events[-2:] == [b"data: [DONE]", b""]
    assert (b'"usage"' in b"".join(recorder.pieces)) is wants_usage
    assert account.bills == [("c1", 10, WORDS)]
    assert seen["body"]["stream_options"] == {"include_usage": True}
    assert recorder.headers[b"x-cordee-served-by"] == b"cloud/outer"


def test_a_forwarded_whole_answer_comes_back_as_it_is(outside):
    recorder, account, _ = tried(outside, call(own=False, stream=False), Manner())
    assert json.loads(b"".join(recorder.pieces))["choices"][0]["message"]["content"] == TEXT
    assert account.bills == [("c1", 10, WORDS)]


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("mode", ["html", "json", "error", "garbage", "no_done", "no_finish"])
def test_a_provider_out_of_order_is_broken_and_never_a_success(outside, own, mode):
    recorder, _, _ = tried(outside, call(own=own), Manner(mode=mode))
    assert recorder.end == "broken"
    assert not recorder.whys
    assert b"[DONE]" not in b"".join(recorder.pieces)


@pytest.mark.parametrize("own", [True, False])
def test_no_room_is_busy_for_as_long_as_it_says_and_costs_nothing(outside, own):
    recorder, account, _ = tried(outside, call(own=own), Manner(mode="busy", retry_after_s=7))
    assert (recorder.end, recorder.retry_after_s) == ("busy", 7.0)
    assert account.bills == [("c1", 0, 0)]


@pytest.mark.parametrize(("mode", "key"), [("quota", KEY), ("ok", "sk-wrong")])
def test_an_account_at_fault_leaves_the_provider_alone_for_a_while(outside, mode, key):
    recorder, account, _ = tried(outside, call(own=True), Manner(mode=mode), key=key)
    assert recorder.end == "broken"
    assert account.rests
    assert key not in recorder.cause


def test_what_it_refuses_of_our_own_models_goes_back_into_the_house(outside):
    recorder, account, _ = tried(outside, call(own=True), Manner(mode="filter"))
    assert (recorder.end, account.refusals) == ("busy", ["c1"])


@pytest.mark.parametrize("mode", ["filter", "refuse"])
def test_what_it_refuses_of_a_forwarded_call_goes_through(outside, mode):
    recorder, account, _ = tried(outside, call(own=False, stream=False), Manner(mode=mode))
    assert (recorder.end, recorder.status) == ("complete", 400)
    assert "error" in json.loads(b"".join(recorder.pieces))
    assert account.bills == [("c1", 0, 0)]


@pytest.mark.parametrize("own", [True, False])
def test_silence_is_broken_and_may_have_cost(outside, own):
    recorder, account, _ = tried(outside, call(own=own), Manner(mode="hang"), first_token_s=0.05)
    assert recorder.end == "broken"
    assert "0.05 s" in recorder.cause
    assert account.bills[0][1] > 0


def test_a_call_that_is_taken_back_in_the_middle_costs_what_was_seen(outside):
    _, account, _ = tried(outside, call(own=True), Manner(word_s=1.0), until=lambda recorder: bool(recorder.texts))
    ((_, tokens_in, tokens_out),) = account.bills
    assert tokens_in > 0
    assert 0 < tokens_out < WORDS


def test_nobody_there_costs_nothing():
    async def go() -> tuple[Recorder, Account]:
        account, recorder = Account(), Recorder()
        cloud = Cloud("outer", Endpoint("http://127.0.0.1:1/v1"), RULES, Continuation.TEXT, 2.0, account)
        cloud.start(call(own=True), 1, (), frozenset(), 60.0, recorder)
        while not recorder.end:
            await asyncio.sleep(0.002)
        return recorder, account

    recorder, account = run(go)
    assert (recorder.end, recorder.ran) == ("broken", False)
    assert account.bills == [("c1", 0, 0)]


def test_text_that_has_left_is_gone_on_from(outside):
    sent = tuple(word.encode() for word in words(4))
    recorder, _, seen = tried(outside, call(own=True, max_tokens=WORDS), Manner(), sent=sent)
    assert recorder.texts == {0: "".join(words()[4:])}
    assert seen["body"]["messages"][-1] == {"role": "assistant", "content": "".join(words(4)), "partial": True}
    assert seen["body"]["max_completion_tokens"] == WORDS - 4


# -- what goes out


def test_only_what_providers_understand_goes_out_and_always_a_limit():
    asked = call(own=False, user="me", metadata={"a": "b"}, min_p=0.1, top_k=5, temperature=0.3, max_tokens=7)
    out = json.loads(request(asked, RULES))
    assert out == {
        "model": "qwen-plus", "messages": [{"role": "user", "content": "hi"}], "stream": True, "temperature": 0.3, "top_k": 5,
        "max_completion_tokens": 7, "stream_options": {"include_usage": True}, "enable_thinking": False,
    }  # fmt: skip
    plain = json.loads(request(call(own=False, stream=False), Rules(OPENAI, {"m": "gpt"}, 50)))
    assert plain == {"model": "gpt", "messages": [{"role": "user", "content": "hi"}], "stream": False, "max_tokens": 50}


def test_the_most_a_call_can_cost_is_known_before_it_leaves():
    asked = call(own=False, n=3)
    tokens_in, tokens_out = most_tokens(asked, RULES)
    assert tokens_in > len(asked.body)
    assert tokens_out == 3 * 50
    assert most_tokens(call(own=False, max_tokens=9), RULES)[1] == 9


@pytest.mark.parametrize(
    "sampling", [Sampling(logprobs=1), Sampling(logit_bias=((1, 1.0),)), Sampling(ignore_eos=True)]
)
def test_what_names_our_own_vocabulary_does_not_leave(sampling):
    asked = replace(call(own=True), work=Work(array("I", [1]), 5, 1, sampling))
    assert not may_take(asked, RULES)


@pytest.mark.parametrize(
    ("more", "grammar", "leaves"),
    [
        ({"response_format": {"type": "json_object"}}, Grammar(Syntax.JSON_OBJECT, ""), True),
        ({"response_format": {"type": "regex", "pattern": "a"}}, Grammar(Syntax.REGEX, "a"), False),
        ({"structured_outputs": {"json_object": True}}, Grammar(Syntax.JSON_OBJECT, ""), False),
    ],
)
def test_a_shape_that_providers_do_not_know_does_not_leave(more, grammar, leaves):
    asked = call(own=True, **more)
    assert asked.work is not None
    assert may_take(replace(asked, work=replace(asked.work, grammar=grammar)), RULES) is leaves
    if "structured_outputs" in more:
        assert not may_take(call(own=False, **more), RULES)


def test_only_models_and_paths_that_are_named_leave():
    assert may_take(call(own=True), RULES)
    assert not may_take(call(own=True), Rules(ALIBABA, {"other": "x"}, 5))
    assert not may_take(replace(call(own=False), path="/v1/embeddings"), RULES)
