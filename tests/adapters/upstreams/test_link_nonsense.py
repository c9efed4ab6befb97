"""A worker that says what no worker says, or nothing: the link is closed, and no attempt is left without an end."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import cordee.adapters.upstreams.link as module
from cordee.adapters.upstreams.link import Link, LinkRules
from cordee.domain.call import Call, Work
from cordee.domain.replica import Load
from cordee.link import frames
from tests.adapters.upstreams.test_kept_answers import Hearer, Listener

VOCABULARY = 100
HELLO = frames.hello(
    frames.WorkerHello(
        protocol=frames.PROTOCOL, worker="w", pid=1, model="m", fingerprint="f", context=64, vocabulary=VOCABULARY,
        exact=True, capacity_sequences=2, capacity_tokens=128, beat_s=0.025,
    )
)  # fmt: skip
RULES = LinkRules(suspect_s_min=5.0)


def work() -> Call:
    return Call("c", "m", "t", "/v1/x", True, 0.0, work=Work(array("I", [1]), 8))


def run(tmp_path: Path, worker: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> Hearer:
    """What an attempt hears from such a worker."""

    async def scenario() -> Hearer:
        address = str(tmp_path / "w.sock")
        server = await asyncio.start_unix_server(worker, address)
        listener, hearer = Listener(), Hearer()
        link = Link(f"unix:{address}", "g", RULES, listener)
        async with asyncio.timeout(5):
            link.open()
            while not listener.is_up:
                await asyncio.sleep(0)
            link.start(work(), 1, [array("I")], frozenset(), 10.0, hearer)
            while not hearer.breaks:
                await asyncio.sleep(0)
        link.close()
        server.close()
        return hearer

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ((1, 0, 999, 0, 0), "finish"),
        ((1, 0, 0, 0, VOCABULARY), "token"),
        ((1, 0, 0, 0, 0xFFFF_FFF0), "token"),
        ((1, 7, 0, 0, 5), "choice"),
        ((1, 7, 1, 0, 5), "choice"),
    ],
)
def test_a_row_that_no_worker_sends_breaks_the_attempt_and_reaches_nobody(
    tmp_path: Path, row: tuple[int, int, int, int, int], said: str
) -> None:
    async def worker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HELLO)
        splitter = frames.Splitter()
        while frames.SUBMIT not in [kind for kind, _ in splitter.feed(await reader.read(4096))]:
            pass
        writer.write(frames.step(Load(), frames.ROW.pack(*row)))
        await reader.read()
        writer.close()

    hearer = run(tmp_path, worker)
    ((cause, ran, fault),) = hearer.breaks
    assert said in cause
    assert (ran, fault) == (True, False)
    assert (hearer.said, hearer.ends) == ([[]], [])


def test_a_connection_on_which_nobody_says_who_he_is_is_given_up_and_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONNECT_S_MAX", 0.05)
    silent = 2

    async def scenario() -> int:
        connections = 0

        async def worker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            if connections > silent:
                writer.write(HELLO)
            await reader.read()
            writer.close()

        address = str(tmp_path / "w.sock")
        server = await asyncio.start_unix_server(worker, address)
        listener = Listener()
        link = Link(f"unix:{address}", "g", RULES, listener)
        link.open()
        async with asyncio.timeout(5):
            while not listener.is_up:
                await asyncio.sleep(0.001)
        made = connections
        await asyncio.sleep(0.1)  # longer than it had to say so
        assert listener.is_up
        assert connections == made
        link.close()
        server.close()
        return connections

    assert asyncio.run(scenario()) > silent  # one that speaks may be given up too, while this process stands still
