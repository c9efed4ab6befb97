"""Answers that outlive their gateway, over real links to a real worker process."""

from __future__ import annotations

import asyncio
import signal
import sys
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from cordee.adapters.upstreams.link import Link, LinkRules
from cordee.domain.call import Call, Sampling, Work
from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.domain.replica import UNKNOWN, Continuation, EngineFigures, Gpu, Load
from cordee.link.frames import WorkerHello
from cordee.policy.oracle import token_at

pytestmark = pytest.mark.e2e
PATIENCE_S = 20.0
NAME = "worker-7"
TOKENS = 60
LONG = 500  # of which each takes 10 ms: still under way when this process has stood still for a moment
PATIENT = LinkRules(suspect_s_min=5.0)  # what is tested here is not how fast a freeze is seen


class Listener:
    def __init__(self) -> None:
        self.is_up = False
        self.last = Load()
        self.late_rows = 0
        self.downs = 0

    def up(self, hello: WorkerHello) -> bool:
        self.is_up = True
        return True

    def load(self, load: Load) -> None:
        self.last = load

    def figures(self, found: EngineFigures) -> None: ...

    def suspected(self, silence_s: float) -> None: ...

    def recovered(self) -> None: ...

    def draining(self) -> None: ...

    def down(self, cause: str) -> None:
        self.is_up = False
        self.downs += 1

    def gpus(self, found: tuple[Gpu, ...]) -> None: ...

    def late(self, rows: int) -> None:
        self.late_rows += rows


class Hearer:
    """Port Receiver: what came, by choice, in order."""

    def __init__(self, n: int = 1) -> None:
        self.said: list[list[int]] = [[] for _ in range(n)]
        self.ends: list[tuple[int, Finish]] = []
        self.breaks: list[tuple[str, bool, bool]] = []
        self.logprobs = 0
        self.was_accepted = False

    def accepted(self) -> None:
        self.was_accepted = True

    def token(self, choice: int, index: int, token: int, logprobs: TokenLogprobs | None) -> None:
        assert index == len(self.said[choice]), "a token came out of its place"
        self.said[choice].append(token)
        self.logprobs += logprobs is not None

    def finish(self, choice: int, index: int, why: Finish) -> None:
        assert index == len(self.said[choice])
        self.ends.append((choice, why))

    def broken(self, cause: str, *, ran: bool, fault: bool = False, crash: int = 0) -> None:
        self.breaks.append((cause, ran, fault))

    def busy(self, retry_after_s: float | None) -> None:
        self.breaks.append(("busy", False, False))

    def text(self, choice: int, text: str, why: Finish = Finish.NONE) -> None: ...

    def continued(self, way: Continuation) -> None: ...

    def cached(self, tokens: int) -> None: ...

    def result(self, choice: int, data: bytes) -> None: ...

    def usage(self, tokens_in: int, tokens_out: int) -> None: ...

    def head(self, status: int, headers: object) -> None: ...

    def body(self, data: bytes) -> None: ...

    def complete(self) -> None: ...


def call(seed: int, n: int = 1, *, attach: str = "", tenant: str = "t", tokens: int = TOKENS, **sampling: int) -> Call:
    work = Work(array("I", range(1, 9)), tokens, n, Sampling(seed=seed, ignore_eos=True, **sampling))  # type: ignore[arg-type]
    return Call(f"call-{seed}", "oracle", tenant, "/v1/x", True, 0.0, work=work, keep=True, attach=attach)


def begin(link: Link, asked: Call, hearer: Hearer):
    assert asked.work is not None
    outputs = [array("I") for _ in range(asked.work.n)]
    return link.start(asked, 1, outputs, frozenset(), 60.0, hearer)


async def until(condition: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"not in time: {what}") from None


@asynccontextmanager
async def worker(directory: Path) -> AsyncIterator[Callable[[], tuple[Link, Listener]]]:
    """A worker process, and a way to open links to it."""
    path = directory / "w.sock"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cordee.cli", "worker", "--listen", f"unix:{path}", "--data", str(directory),
        "--model", "oracle", "--name", NAME, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    links: list[Link] = []

    def connect() -> tuple[Link, Listener]:
        listener = Listener()
        link = Link(f"unix:{path}", "gateway", PATIENT, listener)
        link.open()
        links.append(link)
        return link, listener

    try:
        await until(path.is_socket, "the worker listens")
        yield connect
    finally:
        for link in links:
            link.close()
        process.kill()
        await process.wait()


def cut(link: Link) -> None:
    """The connection ends as that of a killed gateway does."""
    link.close()
    assert link._protocol is not None
    link._protocol.transport.abort()


def right(seed: int, n: int = 1, tokens: int = TOKENS) -> list[list[int]]:
    return [[token_at(seed + choice, i) for i in range(tokens)] for choice in range(n)]


@pytest.mark.parametrize("n", [1, 3])
def test_another_gateway_hears_every_token_once_when_the_first_is_gone(tmp_path: Path, n: int):
    async def scenario() -> None:
        async with worker(tmp_path) as connect:
            (first, one), (second, two) = connect(), connect()
            await until(lambda: one.is_up and two.is_up, "the links are up")
            lost, found = Hearer(n), Hearer(n)
            begin(first, call(9, n, logprobs=1), lost)
            await until(lambda: len(lost.said[0]) >= 5, "the answer has begun")
            cut(first)
            begin(second, call(9, n, attach=NAME, logprobs=1), found)
            await until(lambda: len(found.ends) == n, "the rest")
            assert found.said == right(9, n)
            assert found.logprobs == n * TOKENS
            assert sorted(found.ends) == [(choice, Finish.LENGTH) for choice in range(n)]
            assert (found.breaks, two.late_rows) == ([], 0)
            await until(lambda: two.last.running == 0, "nothing runs any more")
            assert 0 < two.last.memory <= 100 or two.last.memory == UNKNOWN

    asyncio.run(scenario())


def test_several_hear_one_answer_and_a_complete_one_is_told_again(tmp_path: Path):
    async def scenario() -> None:
        async with worker(tmp_path) as connect:
            (first, one), (second, two) = connect(), connect()
            await until(lambda: one.is_up and two.is_up, "the links are up")
            hearers = [Hearer() for _ in range(4)]
            running = begin(first, call(5, tokens=LONG), hearers[0])
            await until(lambda: len(hearers[0].said[0]) >= 3, "the answer has begun")
            begin(second, call(5, attach=NAME, tokens=LONG), hearers[1])
            begin(first, call(5, attach=NAME, tokens=LONG), hearers[2])
            await until(lambda: all(len(hearer.said[0]) >= 8 for hearer in hearers[:3]), "all of them hear it")
            await until(
                lambda: (one.last.running, two.last.running) == (1, 1), "an answer counts once however many listen"
            )
            running.detach()
            await until(lambda: bool(hearers[1].ends and hearers[2].ends), "its end")
            begin(second, call(5, attach=NAME, tokens=LONG), hearers[3])
            await until(lambda: bool(hearers[3].ends), "the repetition")
            assert [hearer.said for hearer in hearers[1:]] == [right(5, tokens=LONG)] * 3
            assert hearers[0].said[0] == right(5, tokens=LONG)[0][: len(hearers[0].said[0])]
            assert hearers[0].ends == []

    asyncio.run(scenario())


def test_a_hundred_answers_survive_links_that_break_at_random(tmp_path: Path):
    """Each answer is heard anew over another link whenever its own breaks, as resumed streams are."""

    async def scenario() -> None:
        rng = Random(18)
        async with worker(tmp_path) as connect:
            links = [connect() for _ in range(3)]
            await until(lambda: all(listener.is_up for _, listener in links), "the links are up")
            heard = {seed: Hearer() for seed in range(1000, 1100)}
            at = {seed: rng.choice(links) for seed in heard}
            for seed, (link, _) in at.items():
                begin(link, call(seed, tokens=TOKENS), heard[seed])
            for downs in range(1, 7):
                await asyncio.sleep(0.1)
                broken, _ = rng.choice(links)
                assert broken._protocol is not None
                broken._protocol.transport.abort()
                await until(lambda downs=downs: sum(one.downs for _, one in links) == downs, "the link is down")  # type: ignore[misc]
                await until(lambda: all(listener.is_up for _, listener in links), "the link is up again")
                for seed in heard:
                    if heard[seed].breaks:
                        heard[seed], at[seed] = Hearer(), rng.choice(links)
                        begin(at[seed][0], call(seed, attach=NAME), heard[seed])
            await until(lambda: all(hearer.ends for hearer in heard.values()), "all answers")
            assert all(hearer.said == right(seed) for seed, hearer in heard.items())
            await until(lambda: links[0][1].last.running == 0, "nothing runs any more")

    asyncio.run(scenario())


def test_what_is_not_kept_is_refused_so_that_the_call_can_go_on_elsewhere(tmp_path: Path):
    async def scenario() -> None:
        async with worker(tmp_path) as connect:
            link, listener = connect()
            await until(lambda: listener.is_up, "the link is up")
            stranger, thief, owner = Hearer(), Hearer(), Hearer()
            begin(link, call(1, attach=NAME), stranger)
            begin(link, call(2), owner)
            begin(link, call(2, attach=NAME, tenant="other"), thief)
            await until(lambda: bool(stranger.breaks and thief.breaks), "both refusals")
            for hearer in (stranger, thief):
                ((_, ran, fault),) = hearer.breaks
                assert (ran, fault, hearer.said) == (False, False, [[]])
            elsewhere = Hearer()
            begin(link, call(3, attach="another-worker"), elsewhere)
            await until(lambda: bool(owner.ends and elsewhere.ends), "ordinary attempts")
            assert (owner.said, elsewhere.said) == (right(2), right(3))

    asyncio.run(scenario())


def test_cancelling_the_only_listener_frees_the_worker_and_detaching_it_does_not(tmp_path: Path):
    async def scenario() -> None:
        async with worker(tmp_path) as connect:
            link, listener = connect()
            await until(lambda: listener.is_up, "the link is up")
            hearer = Hearer()
            running = begin(link, call(4, tokens=50_000), hearer)
            await until(lambda: len(hearer.said[0]) >= 3, "the answer has begun")
            running.detach()
            running.cancel()
            await until(lambda: listener.last.seen == 1 and listener.last.running == 1, "it still runs")
            again = Hearer()
            running = begin(link, call(4, tokens=50_000, attach=NAME), again)
            await until(lambda: len(again.said[0]) > len(hearer.said[0]), "it went on")
            running.cancel()
            await until(lambda: listener.last.running == 0, "it stops")
            after = Hearer()
            begin(link, call(4, tokens=50_000, attach=NAME), after)
            await until(lambda: bool(after.breaks), "it is forgotten")

    asyncio.run(scenario())


def test_a_worker_that_drains_does_not_wait_for_answers_without_listeners(tmp_path: Path):
    async def scenario() -> None:
        path = tmp_path / "w.sock"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cordee.cli", "worker", "--listen", f"unix:{path}", "--data", str(tmp_path),
            "--model", "oracle", "--name", NAME, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        await until(path.is_socket, "the worker listens")
        listener, hearer = Listener(), Hearer()
        link = Link(f"unix:{path}", "gateway", PATIENT, listener)
        link.open()
        await until(lambda: listener.is_up, "the link is up")
        running = begin(link, call(4, tokens=60_000), hearer)
        await until(lambda: len(hearer.said[0]) >= 3, "the answer has begun")
        running.detach()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            assert await process.wait() == 0
        link.close()

    asyncio.run(scenario())
