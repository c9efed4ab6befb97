"""How each model is spoken to: by its own chat template, or by one that the configuration names; and between which marks it reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from cordee.config.sections.attempts import ModelSettings
from cordee.config.tree import Config
from cordee.gateway.prepare import Model
from cordee.ports import Vocabulary
from cordee.wire.reasoning import Marks
from cordee.wire.template import Template
from cordee.wire.template_check import TEMPLATE_CHARS_MAX, problem

UTF8_BYTES_MAX = 4  # of a character
NOTHING_SAID = ModelSettings()


class Templates:
    """`settings`: of each model, by its name."""

    def __init__(self, settings: Mapping[str, ModelSettings]) -> None:
        self.settings = settings

    def of(self, name: str, vocabulary: Vocabulary) -> Template:
        """Raises ValueError for one that cannot be used, OSError for a file that cannot be read."""
        said = self.settings.get(name, NOTHING_SAID)
        source = read_template(name, said.chat_template) if said.chat_template else ""
        match said.reasoning:
            case "auto":
                return Template(vocabulary, source)
            case "off":
                return Template(vocabulary, source, is_told=True)
            case (start, end):
                return Template(vocabulary, source, Marks(start, end), is_told=True)
            case _:
                raise AssertionError(f"models.{name}.reasoning is {said.reasoning!r}, which was checked")

    def made(self, config: Config, models: Mapping[str, Model]) -> tuple[Mapping[str, ModelSettings], dict[str, Model]]:
        """What `take` takes: of a configuration that was read anew. Raises like `of`."""
        new = Templates(config.models)
        changed = [name for name in models if _speech(config.models, name) != _speech(self.settings, name)]
        return config.models, {
            name: replace(models[name], template=new.of(name, models[name].vocabulary)) for name in changed
        }

    def take(self, made: tuple[Mapping[str, ModelSettings], dict[str, Model]], models: dict[str, Model]) -> None:
        """For calls that come from now on."""
        self.settings, changed = made
        models.update(changed)


def check_templates(config: Config) -> None:
    """Whether the files that the configuration names can be used. Raises ValueError, OSError."""
    for name, said in config.models.items():
        if said.chat_template:
            read_template(name, said.chat_template)


def read_template(name: str, file: str) -> str:
    """Raises ValueError for what is no template, OSError for what cannot be read."""
    setting, path = f"models.{name}.chat_template", Path(file).expanduser()
    with path.open("rb") as stream:
        raw = stream.read(TEMPLATE_CHARS_MAX * UTF8_BYTES_MAX + 1)
    try:
        source = raw.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{setting}: {path} is not UTF-8: {error}") from error
    if why := problem(source):
        raise ValueError(f"{setting}: {path}: {why}")
    return source


def _speech(settings: Mapping[str, ModelSettings], name: str) -> tuple[object, object]:
    said = settings.get(name, NOTHING_SAID)
    return said.chat_template, said.reasoning
