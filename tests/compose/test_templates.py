from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cordee.compose.checked import CannotStartError, look_first
from cordee.compose.templates import Templates, check_templates, read_template
from cordee.config.sections.attempts import ModelSettings
from cordee.config.sections.entrances import Edge
from cordee.config.tree import Config
from cordee.gateway.prepare import Model
from cordee.wire.reasoning import THINK, Marks
from cordee.wire.template import Template
from tests.wire.templates import CHATML, HERMES, THINKING
from tests.wire.test_template import Fake

ENDLESS = "{% for i in range(99999) %}{% for j in range(9) %}x{% endfor %}{% endfor %}"


def templates(**said: Any) -> Templates:
    return Templates({"m": ModelSettings(**said)})


def file_of(directory: Path, source: str | bytes) -> str:
    path = directory / "own.jinja"
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return str(path)


def test_a_model_speaks_by_its_own_template_unless_one_is_named(tmp_path: Path) -> None:
    named = templates(chat_template=file_of(tmp_path, HERMES))
    assert not templates().of("m", Fake(CHATML)).uses_tools
    assert named.of("m", Fake(CHATML)).uses_tools
    assert not named.of("other", Fake(CHATML)).uses_tools


def test_marks_of_reasoning_can_be_said() -> None:
    assert templates().of("m", Fake(THINKING)).marks == THINK
    assert templates(reasoning="off").of("m", Fake(THINKING)).marks is None
    assert templates(reasoning=("<a>", "</a>")).of("m", Fake(CHATML)).marks == Marks("<a>", "</a>")


@pytest.mark.parametrize(
    ("source", "why"),
    [("{% for %}", "not valid"), (b"\xff", "UTF-8"), (ENDLESS, "steps")],
)  # fmt: skip
def test_a_template_that_cannot_be_used_is_refused_with_its_setting(
    tmp_path: Path, source: str | bytes, why: str
) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        read_template("m", file_of(tmp_path, source))
    assert str(caught.value).startswith("models.m.chat_template: ")


def test_a_platform_does_not_start_with_one(tmp_path: Path) -> None:
    settings = {"m": ModelSettings(chat_template=str(tmp_path / "missing"))}
    config = Config(model="oracle", models=settings, edge=Edge(enabled=False))
    with pytest.raises(OSError, match="missing"):
        check_templates(config)
    with pytest.raises(CannotStartError, match="missing"):
        look_first(config, {"CORDEE_CACHE": str(tmp_path)})


def test_a_reload_makes_anew_what_has_changed_and_nothing_else() -> None:
    running = templates()
    vocabulary = Fake(CHATML)
    models = {name: Model(name, vocabulary, Template(vocabulary)) for name in ("m", "other")}
    before = dict(models)
    running.take(running.made(Config(models={"m": ModelSettings(tools=False)}), models), models)
    assert models == before
    running.take(running.made(Config(models={"m": ModelSettings(reasoning=("<a>", "</a>"))}), models), models)
    assert models["m"].template.marks == Marks("<a>", "</a>")
    assert models["other"] is before["other"]
    assert running.of("m", vocabulary).marks is not None, "also for what is opened later"
