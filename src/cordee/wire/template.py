"""A chat as the prompt its model was trained on: the model's own Jinja template, in a sandbox.

What a user writes must never become a control token. The template's own control strings must. So any control string inside
a message is cut in two by a marker before rendering, and the rendered text is tokenised piece by piece between the markers:
neither half is a control string. The marker is random in each call, so nobody can write it.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from cordee.ports import Vocabulary
from cordee.wire.errors import Invalid

PROMPT_CHARS_MAX = 4 * 1024 * 1024
FALLBACK = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"


class _Environment(ImmutableSandboxedEnvironment):
    """Ranges are bounded by the base class; attributes with underscores are out of reach."""


class Template:
    """The template of one model. Raises ValueError if it is not valid Jinja."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        environment = _Environment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.globals["raise_exception"] = _raise
        self._vocabulary = vocabulary
        self._tokens = vocabulary.template_tokens()
        self._controls = sorted((c for c in vocabulary.control_strings() if len(c) > 1), key=len, reverse=True)
        try:
            self._template = environment.from_string(vocabulary.chat_template() or FALLBACK)
        except jinja2.TemplateError as error:
            raise ValueError(f"the model's chat template is not valid: {error}") from error

    def encode(self, messages: Sequence[dict[str, Any]], marker: str) -> array[int]:
        """Token ids of the prompt. `marker`: unpredictable text. Raises Invalid where the template refuses."""
        guarded = [
            {key: self._guard(value, marker) if isinstance(value, str) else value for key, value in message.items()}
            for message in messages
        ]
        try:
            text = self._template.render(
                messages=guarded, add_generation_prompt=True, tools=None, documents=None, **self._tokens
            )
        except Invalid:
            raise
        except Exception as error:  # a template is somebody else's program: whatever it raises is about this input
            raise Invalid(f"the model's chat template cannot render these messages: {error}", "messages") from None
        if len(text) > PROMPT_CHARS_MAX:
            raise Invalid(f"the rendered prompt is longer than {PROMPT_CHARS_MAX} characters", "messages")
        parts = text.split(marker)
        ids = self._vocabulary.encode(parts[0], special=True)
        for part in parts[1:]:
            ids += self._vocabulary.encode(part, special=True)
        return ids

    def _guard(self, text: str, marker: str) -> str:
        for control in self._controls:
            while control in text:  # again, where two of them overlap
                text = text.replace(control, control[:1] + marker + control[1:])
        return text


def _raise(message: str) -> None:
    raise Invalid(f"the model's chat template says: {message}", "messages")
