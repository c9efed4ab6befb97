"""Answers that are held to a grammar, by the real model: they are words of it, and the same bit for bit wherever they are cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Annotated, Any, Literal

import msgspec
import pytest
from llguidance import LLTokenizer
from msgspec import Meta, Struct

from cordee.domain.call import Grammar, Syntax
from cordee.engine.constrain import Constraint
from cordee.engine.job import Job
from cordee.kernels.context import Context, ContextSettings
from cordee.kernels.grammar import matcher, tokenizer
from cordee.kernels.llama import Model
from cordee.wire.grammar import schema_grammar
from tests.engine.doubles import job
from tests.engine.real import real_library, real_model
from tests.engine.test_exact import CONTEXT, SLOTS, THREADS, Bench

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]

TOKENS = 160  # more than any of the schemas below can ask for
Short = Annotated[str, Meta(max_length=12)]
Few = Annotated[int, Meta(ge=0, le=99)]


class Person(Struct, forbid_unknown_fields=True):
    name: Short
    age: Annotated[int, Meta(ge=0, le=120)]
    is_member: bool


class Ticket(Struct, forbid_unknown_fields=True):
    kind: Literal["bug", "feature", "question"]
    severity: Literal[1, 2, 3]
    title: Annotated[str, Meta(min_length=1, max_length=20)]
    tags: Annotated[list[Literal["ui", "api", "docs"]], Meta(max_length=3)]


class Place(Struct, forbid_unknown_fields=True):
    code: Annotated[str, Meta(pattern="^[A-Z]{3}$")]
    latitude: Annotated[float, Meta(ge=-90, le=90)]
    population: Few | None


class Reading(Struct, forbid_unknown_fields=True):
    at: Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    values: Annotated[list[Few], Meta(min_length=1, max_length=4)]


class Order(Struct, forbid_unknown_fields=True):
    items: Annotated[list[Person], Meta(min_length=1, max_length=2)]
    paid: bool


class Circle(Struct, tag="circle", forbid_unknown_fields=True):
    radius: Few


class Square(Struct, tag="square", forbid_unknown_fields=True):
    side: Few


class Drawing(Struct, forbid_unknown_fields=True):
    shape: Circle | Square


class Answer(Struct, forbid_unknown_fields=True):
    answer: Literal["yes", "no", "maybe"]
    confidence: Annotated[float, Meta(ge=0, le=1)]


TYPES: tuple[Any, ...] = (
    Person, Ticket, Place, Reading, Order, Drawing, Answer, list[Few],
    Literal["red", "green"], bool, tuple[Few, Short],
)  # fmt: skip
BOUNDED = {list[Few]: {"maxItems": 4}}


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    model = Model(real_library(), real_model())
    context = Context(model, ContextSettings(SLOTS, CONTEXT, 512, 128, THREADS, exact=True))
    yield Bench(context)
    context.close()
    model.close()


@pytest.fixture(scope="module")
def model(bench: Bench) -> Model:
    found: Model = bench.loop._runner._context.model  # type: ignore[attr-defined]  # the real runner has one
    return found


@pytest.fixture(scope="module")
def index(model: Model) -> LLTokenizer:
    return tokenizer(model)


def grammar_of(kind: Any) -> Grammar:
    schema = msgspec.json.schema(kind)
    schema.update(BOUNDED.get(kind, {}))
    schema.pop("discriminator", None)
    return schema_grammar(_without(msgspec.json.encode(schema)), strict=True)


def _without(schema: bytes) -> bytes:
    """An extension of OpenAPI that says nothing new."""

    def clean(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: clean(value) for key, value in node.items() if key != "discriminator"}
        return [clean(one) for one in node] if isinstance(node, list) else node

    return msgspec.json.encode(clean(msgspec.json.decode(schema)))


def held(made: Job, model: Model, index: LLTokenizer, grammar: Grammar) -> Job:
    constraints = tuple(Constraint(matcher(index, grammar), model.ends(), out.tolist()) for out in made.outputs)
    return replace(made, grammar=grammar, constraints=constraints)


def prompt(model: Model, text: str = "Here is some JSON:\n") -> list[int]:
    return list(model.tokenize(text.encode(), special=False))


def test_at_temperature_one_every_answer_is_what_its_schema_describes(bench: Bench, model: Model, index: LLTokenizer):
    jobs = [
        held(job(i, prompt(model), max_tokens=TOKENS, seed=i, temperature=1.0), model, index, grammar_of(kind))
        for i, kind in enumerate(TYPES)
    ]
    answers = bench.answers(jobs)
    for i, kind in enumerate(TYPES):
        text = b"".join(map(model.piece, answers[i, 0]))
        msgspec.json.decode(text, type=kind)


@pytest.mark.parametrize("sampling", [{"temperature": 0.0}, {"temperature": 1.0}], ids=["greedy", "temperature 1"])
def test_alone_batched_and_cut_anywhere_they_are_bitwise_the_same(
    bench: Bench, model: Model, index: LLTokenizer, sampling: dict[str, Any]
):
    kinds = (
        grammar_of(Ticket), grammar_of(Order), Grammar(Syntax.JSON_OBJECT, ""),
        Grammar(Syntax.REGEX, r"([A-Z][a-z]{2,8} ){1,6}\."), Grammar(Syntax.LARK, 'start: ("é☃" /[α-ω]{1,4}/ " ")+'),
    )  # fmt: skip

    def made(i: int, outputs: tuple[list[int], ...] = ([],)) -> Job:
        one = job(i, prompt(model), outputs=outputs, max_tokens=32, seed=i, **sampling)
        return held(one, model, index, kinds[i])

    numbers = range(len(kinds))
    alone = {key: out for i in numbers for key, out in bench.answers([made(i)]).items()}
    assert bench.answers([made(i) for i in numbers]) == alone
    cuts = Random(1)
    for _ in range(2):
        rest, expected = [], {}
        for i in numbers:
            whole = alone[i, 0]
            cut = cuts.randrange(1, len(whole))
            rest.append(made(i, (whole[:cut],)))
            expected[i, 0] = whole[cut:]
        assert bench.answers(rest) == expected


def test_masks_after_a_replay_are_those_of_the_undisturbed(model: Model, index: LLTokenizer):
    grammar, cuts = grammar_of(Order), Random(3)
    text = b'{"items":[{"name":"Ann \xc3\xa9","age":31,"is_member":true},{"name":"","age":7,"is_member":false}],"paid":true}'
    tokens = [token for word in (text[:30], text[30:61], text[61:]) for token in model.tokenize(word, special=False)]
    stepped, masks = matcher(index, grammar), []
    for token in tokens:
        masks.append(stepped.compute_bitmask())
        assert stepped.consume_token(token)
    assert stepped.is_stopped()
    for cut in cuts.sample(range(len(tokens)), 12):
        again = matcher(index, grammar)
        assert again.consume_tokens(tokens[:cut])
        for at in range(cut, len(tokens)):
            assert again.compute_bitmask() == masks[at]
            again.consume_token(tokens[at])
