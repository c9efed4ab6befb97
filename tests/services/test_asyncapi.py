"""docs/asyncapi.yaml says what services tell, no more and no less: held against the places in the code where they tell it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cordee.domain.record import record
from cordee.services.base.cloudevents import written
from cordee.services.base.outbox import Event
from cordee.services.webhooks.rules.words import EVENT_TYPES, PATTERNS, message

ROOT = Path(__file__).parents[2]
SERVICES = ROOT / "src" / "cordee" / "services"
DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text())
MESSAGES = {message["name"]: message for message in DOCUMENT["components"]["messages"].values()}
WORD = re.compile(r"[a-z_]+\.[a-z_]+")


@record
class Told:
    """One place where something is told. `pattern`: of its types; `fields`: those of its data that stand there in plain sight."""

    where: str
    pattern: str
    fields: frozenset[str]


def places() -> Iterator[Told]:
    for path in sorted(SERVICES.rglob("*.py")):
        service = path.relative_to(SERVICES).parts[0]
        if service == "base":
            continue
        tree = ast.parse(path.read_text())
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for call in ast.walk(function):
                    what = _what(call)
                    if what is None:
                        continue
                    assert isinstance(call, ast.Call)
                    for pattern in _patterns(what, function):
                        yield Told(f"{path}:{call.lineno}", rf"cordee\.{service}\.{pattern}", _fields(call, function))


def _what(call: ast.AST) -> ast.expr | None:
    """The argument that says what is told, of `….outbox.append(on, now, what, …)` and `service.tell(on, what, …)`."""
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return None
    owner = call.func.value
    if call.func.attr == "append" and isinstance(owner, ast.Attribute) and owner.attr == "outbox":
        what = call.args[2]
    elif call.func.attr == "tell" and isinstance(owner, ast.Name) and owner.id == "service":
        what = call.args[1]
    else:
        return None
    is_passed_on = isinstance(what, ast.Name) and what.id == "what" and isinstance(owner, ast.Attribute)
    return None if is_passed_on else what  # the service's own `tell` hands on what it is told to


def _patterns(what: ast.expr, function: ast.AST) -> list[str]:
    match what:
        case ast.Constant(value=str(text)):
            assert WORD.fullmatch(text), text
            return [re.escape(text)]
        case ast.IfExp(body=one, orelse=other):
            return [*_patterns(one, function), *_patterns(other, function)]
        case ast.JoinedStr(values=parts):
            return [
                "".join(re.escape(str(part.value)) if isinstance(part, ast.Constant) else "[a-z_]+" for part in parts)
            ]
        case ast.Name(id=name):
            return _patterns(_assigned(name, function), function)
        case _:
            raise AssertionError(f"what is told cannot be read here: {ast.unparse(what)}")


def _assigned(name: str, function: ast.AST) -> ast.expr:
    found = [
        node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and any(isinstance(one, ast.Name) and one.id == name for one in node.targets)
    ]
    assert len(found) == 1, f"{name} is assigned {len(found)} times"
    return found[0]


def _fields(call: ast.Call, function: ast.AST) -> frozenset[str]:
    """Those that are written out in the call, or in the one assignment of the name that it hands over."""
    data = call.args[-1]
    if isinstance(data, ast.Name) and data.id in ("data", "about", "news"):
        data = _assigned(data.id, function)
    if not isinstance(data, ast.Dict):
        return frozenset()
    return frozenset(str(key.value) for key in data.keys if isinstance(key, ast.Constant))


TOLD = list(places())


def test_there_is_something_told():
    assert len(TOLD) > 30


@pytest.mark.parametrize("told", TOLD, ids=lambda told: told.pattern.replace("\\", ""))
def test_what_is_told_is_documented_with_its_data(told: Told):
    found = [name for name in MESSAGES if re.fullmatch(told.pattern, name)]
    assert found, f"{told.where} tells {told.pattern}, which docs/asyncapi.yaml does not name"
    for name in found:
        assert told.fields <= set(_data(name)["properties"]), f"{told.where}: data of {name}"


@pytest.mark.parametrize("name", MESSAGES)
def test_what_is_documented_is_told_somewhere(name: str):
    assert any(re.fullmatch(told.pattern, name) for told in TOLD), f"nobody tells {name}"


def test_every_reference_in_the_document_leads_somewhere():
    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"]
            for value in node.values():
                yield from walk(value)
        elif isinstance(node, list):
            for value in node:
                yield from walk(value)

    for reference in walk(DOCUMENT):
        _resolved(reference)
    assert DOCUMENT["asyncapi"].startswith("3.")
    assert set(DOCUMENT["channels"]["events"]["messages"]) == set(DOCUMENT["components"]["messages"])


def test_an_envelope_has_exactly_the_fields_that_the_document_says():
    event = Event("event_1", "cordee/files", "cordee.files.file.created", "file-1", "tenant_1", 1.0, "{}")
    sent = yaml.safe_load(written(event))
    assert set(sent) == set(DOCUMENT["components"]["schemas"]["Envelope"]["required"])


def test_everything_that_webhooks_tell_of_is_told_by_somebody():
    heard = {one.type for name in MESSAGES if (one := message(Event("event_1", "", name, "x_1", "t", 1.0, "{}")))}
    assert heard == set(EVENT_TYPES)
    assert all(any(re.match(pattern.replace("*", ""), name) for name in MESSAGES) for pattern in PATTERNS)


def _data(name: str) -> Any:
    (_, more) = MESSAGES[name]["payload"]["allOf"]
    assert more["properties"]["type"] == {"const": name}
    return _resolved(more["properties"]["data"]["$ref"])


def _resolved(reference: str) -> Any:
    node: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node
