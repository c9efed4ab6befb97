"""Vocabularies are read when they are needed, once, and whoever came first comes in again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from cordee.gateway.openings import UNREAD, Opened, Opener, Openings, Waiting
from cordee.gateway.prepare import Model
from cordee.wire.errors import Invalid
from cordee.wire.template import Template
from tests.gateway.doubles import Bytes


class Case:
    """One model, `m`; `fault` is what reading it meets."""

    def __init__(self, *, is_eager: bool = False, is_awaited: bool = True, waiting_max: int = 2) -> None:
        self.read = 0
        self.fault: Exception | None = None
        self.models: dict[str, Model] = {}
        self.contexts: dict[str, int] = {}
        self.sizes: dict[str, int] = {}
        self.openings = Openings(
            {"m": Opener(self.open, is_eager)},
            self.models,
            self.contexts,
            self.sizes,
            waiting_max,
            is_awaited=is_awaited,
        )
        self.heard: list[str] = []

    def open(self) -> Opened:
        self.read += 1
        if self.fault is not None:
            raise self.fault
        vocabulary = Bytes()
        return Opened(Model("m", vocabulary, Template(vocabulary)), 512)

    def waiting(self, name: str) -> Waiting:
        return Waiting(lambda: self.heard.append(name), lambda fault: self.heard.append(f"{name}: {fault.message}"))

    def run(self, play: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            async with asyncio.timeout(5):
                await play()

        asyncio.run(main())

    async def until_heard(self, count: int) -> None:
        while len(self.heard) < count:
            await asyncio.sleep(0.001)


def test_requests_wait_for_one_reading_and_come_in_again_in_their_order() -> None:
    case = Case()

    async def play() -> None:
        assert case.openings.takes("m", case.waiting("first"))
        assert case.openings.takes("m", case.waiting("second"))
        with pytest.raises(Invalid) as refused:
            case.openings.takes("m", case.waiting("third"))
        assert refused.value.status == 503
        await case.until_heard(2)
        assert case.heard == ["first", "second"]
        assert case.read == 1
        assert case.contexts == {"m": 512}
        assert not case.openings.takes("m", case.waiting("late")), "it is read"
        assert not case.openings.takes("other", case.waiting("other")), "it is none of these"

    case.run(play)


def test_a_model_that_cannot_be_read_is_refused_with_the_reason_and_read_again_later() -> None:
    case = Case()
    case.fault = ValueError("the chat template is not valid")

    async def play() -> None:
        case.openings.takes("m", case.waiting("first"))
        await case.until_heard(1)
        assert case.heard == ["first: the model 'm' cannot be used: the chat template is not valid"]
        await asyncio.sleep(0)
        case.fault = None
        await case.openings.opened("m")
        assert "m" in case.models

    case.run(play)


def test_who_comes_while_the_refusal_is_told_has_it_read_anew() -> None:
    case = Case()
    case.fault = ValueError("the chat template is not valid")

    def again(_: Invalid) -> None:
        case.fault = None
        assert case.openings.takes("m", case.waiting("second"))

    async def play() -> None:
        case.openings.takes("m", Waiting(lambda: None, again))
        await case.until_heard(1)
        assert case.heard == ["second"]
        assert case.read == 2

    case.run(play)


def test_whatever_the_reading_raises_nobody_waits_for_ever() -> None:
    class UnheardOfError(Exception):
        pass

    case = Case()
    case.fault = UnheardOfError("its file is a poem")

    async def play() -> None:
        assert case.openings.takes("m", case.waiting("first"))
        await case.until_heard(1)
        assert "a poem" in case.heard[0]

    case.run(play)


def test_clients_learn_which_file_is_at_fault_and_the_log_where_it_lies(caplog: pytest.LogCaptureFixture) -> None:
    case = Case()
    case.fault = ValueError("/srv/models/a.gguf is not a whole GGUF file: it ends early")
    told: list[str] = []
    case.openings.on_fault = lambda _, why: told.append(why)

    async def play() -> None:
        case.openings.takes("m", case.waiting("first"))
        await case.until_heard(1)

    case.run(play)
    why = "a.gguf is not a whole GGUF file: it ends early"
    assert case.heard == [f"first: the model 'm' cannot be used: {why}"]
    assert told == [why]
    assert "/srv/models/a.gguf" in caplog.text


def test_others_are_told_of_a_model_that_cannot_be_read() -> None:
    case = Case()
    case.fault = OSError("no such file")
    told: list[tuple[str, str]] = []
    case.openings.on_fault = lambda name, why: told.append((name, why))

    async def play() -> None:
        case.openings.takes("m", case.waiting("first"))
        await case.until_heard(1)
        assert told == [("m", "no such file")]

    case.run(play)


def test_whoever_awaits_it_gets_the_refusal() -> None:
    case = Case()
    case.fault = OSError("no such file")

    async def play() -> None:
        with pytest.raises(Invalid, match="no such file"):
            await case.openings.opened("m")
        await case.openings.opened("other")

    case.run(play)


def test_a_file_that_changed_after_its_workers_were_started_is_not_used() -> None:
    case = Case()
    case.sizes["m"] = 7

    async def play() -> None:
        with pytest.raises(Invalid, match="changed after they were started"):
            await case.openings.opened("m")
        assert not case.models

    case.run(play)


def test_a_worker_that_comes_up_has_the_vocabulary_of_a_pinned_model_read_at_once() -> None:
    async def play() -> None:
        pinned, demand = Case(is_eager=True), Case()
        assert pinned.openings.size("m") == demand.openings.size("m") == UNREAD
        assert pinned.openings.size("other") is None
        while not pinned.models:
            await asyncio.sleep(0.001)
        assert pinned.openings.size("m") == Bytes.size
        assert not demand.read

    Case().run(play)


def test_without_a_supervisor_nothing_is_read_for_a_model_that_no_worker_has() -> None:
    case = Case(is_awaited=False)

    async def play() -> None:
        assert not case.openings.takes("m", case.waiting("first"))
        case.contexts["m"] = 256
        assert case.openings.takes("m", case.waiting("second"))
        await case.until_heard(1)
        assert case.contexts["m"] == 256, "what its worker said counts"

    case.run(play)
