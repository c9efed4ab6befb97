"""Answers of a given shape: asked for at the front door, looked at beside it, and handed to a worker only once they are found fine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import openai
import pydantic
import pytest

from cordee.domain.call import Grammar, Syntax
from cordee.gateway.grammars import GrammarDoor, checks
from cordee.ports import AwayError
from cordee.wire.errors import Invalid
from cordee.wire.grammar import Asked
from tests.gateway.doubles import KEY, Gateway

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
BYTES_MAX = 2000


class Trials:
    """Port Grammars: a pattern "bad…" is wrong, "away" cannot be looked at. `asked`: what was looked at."""

    def __init__(self) -> None:
        self.asked: list[Grammar] = []
        self.verdicts: dict[Grammar, str] = {}

    def known(self, grammar: Grammar) -> str | None:
        return self.verdicts.get(grammar)

    async def check(self, grammar: Grammar) -> str:
        self.asked.append(grammar)
        await asyncio.sleep(0)
        if grammar.text == "away":
            raise AwayError("5 others wait")
        verdict = self.verdicts[grammar] = "it is bad" if grammar.text.startswith("bad") else ""
        return verdict


@pytest.fixture(scope="module")
def shared() -> Iterator[Gateway]:
    with Gateway() as gateway:
        yield gateway
    assert gateway.faults == []


@pytest.fixture
def trials(shared: Gateway) -> Trials:
    made = Trials()
    shared.calls.grammars = GrammarDoor(made, BYTES_MAX)
    shared.worker.calls.clear()
    return made


def ask(gateway: Gateway, path: str = "/v1/chat/completions", **given: Any) -> tuple[int, Any]:
    body = {**CHAT, **given} if path.startswith("/v1/chat") else {"model": "m", "prompt": "hi", **given}
    status, _, answer = gateway.ask(body, path)
    return status, json.loads(answer)


def regex(pattern: str) -> dict[str, Any]:
    return {"type": "regex", "pattern": pattern}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_worker_is_handed_the_grammar(shared: Gateway, trials: Trials, path: str):
    status, _ = ask(shared, path, response_format=regex("a+"))
    assert status == 200
    work = shared.worker.calls[0].work
    assert work is not None
    assert work.grammar == Grammar(Syntax.REGEX, "a+")


def test_what_is_known_to_be_fine_is_not_looked_at_again(shared: Gateway, trials: Trials):
    for _ in range(3):
        assert ask(shared, response_format=regex("a+"))[0] == 200
    assert len(trials.asked) == 1
    assert len(shared.worker.calls) == 3


def test_a_call_without_a_grammar_is_never_looked_at(shared: Gateway, trials: Trials):
    for given in ({}, {"response_format": {"type": "text"}}, {"structured_outputs": None}):
        assert ask(shared, **given)[0] == 200
    assert trials.asked == []
    assert all(call.work is not None and call.work.grammar is None for call in shared.worker.calls)


def test_what_cannot_be_used_is_refused_by_name_before_a_worker_hears_of_it(shared: Gateway, trials: Trials):
    status, body = ask(shared, response_format=regex("bad"))
    assert status == 400
    assert body["error"]["param"] == "response_format.pattern"
    assert "it is bad" in body["error"]["message"]
    assert ask(shared, structured_outputs={"regex": "bad"})[1]["error"]["param"] == "structured_outputs.regex"
    assert shared.worker.calls == []


def test_what_is_too_long_is_refused_with_the_limit(shared: Gateway, trials: Trials):
    status, body = ask(shared, response_format=regex("é" * BYTES_MAX))
    assert status == 400
    assert str(BYTES_MAX) in body["error"]["message"]
    assert str(2 * BYTES_MAX) in body["error"]["message"]
    assert trials.asked == []


def test_where_nobody_can_look_the_client_is_told_to_come_again(shared: Gateway, trials: Trials):
    status, headers, body = shared.ask({**CHAT, "response_format": regex("away")})
    assert status == 503
    assert "retry-after" in headers
    assert json.loads(body)["error"]["param"] == "response_format.pattern"


def test_a_shape_that_cannot_be_meant_is_refused_before_it_is_looked_at(shared: Gateway, trials: Trials):
    for given in ({"type": "nope"}, {"type": "json_schema"}, 7):
        status, body = ask(shared, response_format=given)
        assert status == 400
        assert body["error"]["param"].startswith("response_format")
    assert trials.asked == []


def test_a_model_that_cannot_be_held_to_a_grammar_says_so(shared: Gateway, trials: Trials):
    model = shared.calls.models["m"]
    shared.calls.models["m"] = replace(model, constrains=False)
    try:
        for given in ({"response_format": regex("a")}, {"structured_outputs": {"regex": "a"}}):
            status, body = ask(shared, **given)
            assert status == 400
            assert body["error"]["code"] == "unsupported_parameter"
            assert body["error"]["param"] == next(iter(given))
        assert ask(shared, response_format={"type": "text"})[0] == 200
    finally:
        shared.calls.models["m"] = model


def test_the_official_clients_way_of_asking_for_a_type_is_understood(shared: Gateway, trials: Trials):
    class Person(pydantic.BaseModel):
        name: str
        age: int

    shared.worker.text = '{"name": "A", "age": 7}'
    with openai.OpenAI(base_url=shared.url, api_key=KEY, max_retries=0, timeout=5) as client:
        answer = client.chat.completions.parse(model="m", messages=CHAT["messages"], response_format=Person)
    assert answer.choices[0].message.parsed == Person(name="A", age=7)
    work = shared.worker.calls[0].work
    assert work is not None
    assert work.grammar is not None
    assert json.loads(work.grammar.text)["required"] == ["name", "age"]


def test_the_tool_whose_schema_cannot_be_used_is_named(trials: Trials):
    fine, bad = Grammar(Syntax.JSON_SCHEMA, "{}"), Grammar(Syntax.JSON_SCHEMA, "bad")

    def asked(*parts: Asked) -> Asked:
        return Asked(Grammar(Syntax.LARK, "bad: together"), "tools", lambda: parts)

    def refused(given: Asked) -> Invalid:
        with pytest.raises(Invalid) as caught:
            asyncio.run(GrammarDoor(trials, BYTES_MAX).admit(given))
        return caught.value

    assert refused(asked(Asked(fine, "tools[0]"), Asked(bad, "tools[1]"))).param == "tools[1]"
    assert refused(asked(Asked(fine, "tools[0]"))).param == "tools", "only together they are too much"


def test_verdicts_are_counted_by_kind():
    (family,) = checks({"fine": 3, "refused": 1})
    assert {(sample.labels["verdict"], sample.value) for sample in family.samples} == {("fine", 3), ("refused", 1)}
