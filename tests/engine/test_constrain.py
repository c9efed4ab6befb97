"""Held to a grammar: which tokens are drawn, how an answer ends, and what happens when a grammar becomes too much."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from cordee.domain.call import Grammar, Sampling, Syntax
from cordee.engine.constrain import Constraint, ConstraintError
from cordee.engine.constrainer import Constrainer
from cordee.engine.job import Job, JobName
from cordee.engine.sample import Draw, Matrix, Sampler, Voice
from cordee.kernels.grammar import byte_tokenizer, matcher
from tests.engine.doubles import job

INDEX = byte_tokenizer()
SIZE, END = 257, 256
NOTHING: np.ndarray = np.empty(0, np.int32)
WORD = Grammar(Syntax.REGEX, "ab?c|x{3}")


def constraint(grammar: Grammar = WORD, said: str = "") -> Constraint:
    return Constraint(matcher(INDEX, grammar), [END], list(said.encode()))


def held(sampling: Sampling, grammar: Grammar = WORD, said: str = "", seed: int = 0) -> Voice:
    voice = Voice(sampling, seed, NOTHING, np.array(list(said.encode()), np.int32))
    voice.constraint = constraint(grammar, said)
    return voice


def logits(rows: int = 1, favourite: str = "") -> Matrix:
    made = np.random.default_rng(1).normal(size=(rows, SIZE)).astype(np.float32)
    for letter in favourite.encode():
        made[:, letter] = 20
    return made


def draw(voice: Voice, matrix: Matrix, position: int = 0) -> Draw:
    return Sampler(SIZE, [END]).draw(matrix, [voice], [position])[0]


def say(voice: Voice, text: str) -> None:
    for token in text.encode():
        voice.said(token)


GREEDY = Sampling(temperature=0)


def test_only_what_the_grammar_allows_is_drawn():
    for sampling in (GREEDY, Sampling(temperature=2.0), Sampling(top_k=5), Sampling(top_p=0.1), Sampling(min_p=0.5)):
        voice = held(sampling)
        assert chr(draw(voice, logits(favourite="zq")).token) in "ax"
        say(voice, "a")
        assert chr(draw(voice, logits(favourite="zq")).token) in "bc"


def test_the_likeliest_of_the_allowed_is_drawn_by_the_greedy():
    assert draw(held(GREEDY), logits(favourite="x")).token == ord("x")
    assert draw(held(GREEDY), logits(favourite="a")).token == ord("a")


def test_others_in_the_batch_are_drawn_as_if_alone():
    matrix = logits(3)
    plain = Voice(GREEDY, 0, NOTHING, NOTHING)
    warm = Voice(Sampling(temperature=1.0), 7, NOTHING, NOTHING)
    alone = [draw(plain, matrix[0:1].copy()), draw(held(GREEDY), matrix[1:2].copy()), draw(warm, matrix[2:3].copy())]
    assert Sampler(SIZE, [END]).draw(matrix.copy(), [plain, held(GREEDY), warm], [0, 0, 0]) == alone


def test_an_answer_is_complete_when_nothing_may_follow():
    voice = held(GREEDY)
    say(voice, "a")
    assert not voice.is_complete
    say(voice, "c")
    assert voice.is_complete


def test_where_the_text_may_end_or_go_on_the_end_is_allowed_too():
    voice = held(GREEDY, Grammar(Syntax.REGEX, "a+"), "a")
    matrix = logits(favourite="z")
    matrix[0, END] = 10
    assert draw(voice, matrix).token == END
    assert not voice.is_complete


@pytest.mark.parametrize("sampling", [Sampling(temperature=0, min_tokens=9), Sampling(ignore_eos=True)])
def test_what_has_to_go_on_goes_on_as_long_as_the_grammar_allows(sampling: Sampling):
    voice = held(sampling, Grammar(Syntax.REGEX, "a{1,3}"), "a")
    matrix = logits()
    matrix[0, END] = 50
    assert draw(voice, matrix, 1).token == ord("a")
    say(voice, "aa")
    assert voice.is_complete
    assert draw(voice, logits(), 3).token == END


def test_log_probabilities_stay_those_of_the_model():
    free, bound = Voice(Sampling(logprobs=2), 1, NOTHING, NOTHING), held(Sampling(temperature=0, logprobs=2))
    matrix = logits(favourite="z")
    theirs, ours = draw(free, matrix.copy()).logprobs, draw(bound, matrix.copy()).logprobs
    assert theirs is not None
    assert ours is not None
    assert ours.alternatives == theirs.alternatives
    assert ours.alternatives[0][0] == ord("z")
    assert ours.chosen < ours.alternatives[0][1]


def test_what_was_said_elsewhere_is_gone_on_from():
    for cut in range(4):
        voice = held(GREEDY, Grammar(Syntax.REGEX, "(abc)+"), "abcabc"[:cut])
        assert draw(voice, logits(favourite="z")).token == ord("abcabc"[cut])


def test_what_is_none_of_the_grammar_is_not_gone_on_from():
    with pytest.raises(ConstraintError, match="2 tokens"):
        constraint(said="zz")


def test_a_grammar_that_becomes_too_much_fails_its_own_answer_only():
    big = Grammar(Syntax.REGEX, "((a{1,1000}){1,1000}){1,1000}")
    voice, other = held(GREEDY, big), Voice(GREEDY, 0, NOTHING, NOTHING)
    for position in range(300):
        draws = Sampler(SIZE, [END]).draw(logits(2), [voice, other], [position, position])
        if draws[0].token < 0:
            break
        assert draws[0].token == ord("a")
        say(voice, "a")
    assert draws[0].token == -1
    assert "simplify" in draws[0].why
    assert draws[1].token >= 0


class Vocabulary:
    """What a constrainer asks of a model."""

    size = SIZE

    def ends(self) -> list[int]:
        return [END]

    def control_tokens(self) -> list[int]:
        return [END]

    def text(self, token: int) -> str:
        return "<end>"

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < END else b""

    def tokenize(self, text: bytes, *, special: bool) -> Sequence[int]:
        return list(text)


class Hearing:
    """What a constrainer said."""

    def __init__(self) -> None:
        self.ready: list[Job] = []
        self.failed: list[tuple[JobName, str]] = []
        self.told = asyncio.Event()
        self.constrainer = Constrainer(Vocabulary(), self._ready, self._failed)  # type: ignore[arg-type]
        self.constrainer.start()

    def _ready(self, one: Job) -> None:
        self.ready.append(one)
        self.told.set()

    def _failed(self, name: JobName, why: str) -> None:
        self.failed.append((name, why))
        self.told.set()


def wanting(handle: int, grammar: Grammar, outputs: Sequence[Sequence[int]] = ((),)) -> Job:

    made = job(handle, [1, 2], outputs=outputs, choices=tuple(range(len(outputs))), max_tokens=9)
    return replace(made, grammar=grammar)


def hear(jobs: Sequence[Job], cancelled: Sequence[Job] = ()) -> Hearing:
    async def inside() -> Hearing:
        hearing = Hearing()
        for one in jobs:
            hearing.constrainer.prepare(one)
        for one in cancelled:
            hearing.constrainer.forget(one.name)
        while len(hearing.ready) + len(hearing.failed) < len(jobs) - len(cancelled):
            hearing.told.clear()
            await asyncio.wait_for(hearing.told.wait(), 10)
        hearing.constrainer.close()
        await asyncio.sleep(0)
        return hearing

    return asyncio.run(inside())


def test_each_choice_of_a_job_is_held_from_where_it_is():
    hearing = hear([wanting(1, WORD, (b"", b"a", b"abc"))])
    (ready,) = hearing.ready
    assert [one.is_complete for one in ready.constraints] == [False, False, True]
    masked = logits()[0]
    assert ready.constraints[1].mask(masked)
    assert [chr(i) for i in np.flatnonzero(np.isfinite(masked))] == ["b", "c"]
    assert not ready.constraints[2].mask(masked)


def test_a_grammar_that_cannot_be_used_fails_its_job():
    hearing = hear([wanting(1, Grammar(Syntax.REGEX, "(a")), wanting(2, WORD), wanting(3, WORD, (b"zz",))])
    assert [one.name[1] for one in hearing.ready] == [2]
    assert {name[1] for name, _ in hearing.failed} == {1, 3}
    assert all("cannot be used" in why for _, why in hearing.failed)


def test_a_job_that_was_cancelled_meanwhile_is_not_heard_of_again():
    jobs = [wanting(1, WORD), wanting(2, WORD)]
    hearing = hear(jobs, cancelled=jobs[:1])
    assert [one.name[1] for one in hearing.ready] == [2]
