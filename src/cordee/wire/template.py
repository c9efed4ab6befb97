"""A chat as the prompt its model was trained on: the model's own Jinja template, in a sandbox.

What a user writes must never become a control token. The template's own control strings must. So any control string inside
a message is cut in two by a marker before rendering, and the rendered text is tokenised piece by piece between the markers:
neither half is a control string. The marker is random in each call, so nobody can write it. The same holds for every name and every
text in tools, in the arguments of calls, and in a template's own options.

The template also says how the model speaks: whether it can be told of tools, how it writes calls, what its reasoning stands between.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import meta
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from cordee.ports import Vocabulary
from cordee.wire.errors import Invalid
from cordee.wire.reasoning import Marks, marks_of
from cordee.wire.tool_families import family_of

PROMPT_CHARS_MAX = 4 * 1024 * 1024
FALLBACK = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
NOTHING_MORE: Mapping[str, Any] = {}
GIVEN = frozenset(
    {"messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token", "strftime_now", "unk_token"}
)
PROBE_TOOL = {
    "type": "function",
    "function": {"name": "probe_of_tools", "description": "", "parameters": {"type": "object", "properties": {}}},
}
PROBE_ID = "abcdef123"  # as long as the pickiest templates want it


class _Environment(ImmutableSandboxedEnvironment):
    """Ranges are bounded by the base class; attributes with underscores are out of reach."""


def environment() -> _Environment:
    """The sandbox that templates are compiled in."""
    made = _Environment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    made.globals["raise_exception"] = _raise
    made.globals["strftime_now"] = lambda pattern: (
        datetime.now().astimezone().strftime(pattern)
    )  # templates tell models the date
    made.filters["tojson"] = _to_json  # jinja's own is for web pages: it writes < as an escape
    return made


class Template:
    """The template of one model. Raises ValueError if it is not valid Jinja.

    `source`: to be used in place of the model's own, "" for that. `marks`: around the model's reasoning; None: it has none, and `is_told`
    False: as the template says. `variables` are what a request may set of it. `spelled` are the texts of marks that are control tokens.
    `wants_text`: the arguments of calls are to be handed to it as JSON text.
    """

    def __init__(
        self, vocabulary: Vocabulary, source: str = "", marks: Marks | None = None, *, is_told: bool = False
    ) -> None:
        self._vocabulary = vocabulary
        source = source or vocabulary.chat_template() or FALLBACK
        self._tokens = vocabulary.template_tokens()
        self._controls = sorted((c for c in vocabulary.control_strings() if len(c) > 1), key=len, reverse=True)
        try:
            sandbox = environment()
            self._template = sandbox.from_string(source)
            self.variables = (
                frozenset(meta.find_undeclared_variables(sandbox.parse(source))) - GIVEN - set(sandbox.globals)
            )
        except jinja2.TemplateError as error:
            raise ValueError(f"the model's chat template is not valid: {error}") from error
        self.family = family_of(source)
        self.marks = marks if is_told else marks_of(source)
        self.uses_tools = "tools" in source and self._shows_tools()
        around = (self.marks.start, self.marks.end) if self.marks is not None else ()
        self.wants_text = (
            self.uses_tools and not self._shows_call({"a": "probed"}) and self._shows_call('{"a": "probed"}')
        )
        self.spelled = self._spelled((self.family.start, self.family.end, self.family.tag, *around))

    def encode(self, messages: Sequence[dict[str, Any]], marker: str) -> array[int]:
        """Token ids of the prompt. `marker`: unpredictable text. Raises Invalid where the template refuses."""
        return self.tokens(self.render(messages, marker), marker)

    def render(
        self, messages: Sequence[dict[str, Any]], marker: str, tools: Sequence[dict[str, Any]] | None = None,
        more: Mapping[str, Any] = NOTHING_MORE,
    ) -> str:  # fmt: skip
        """The prompt with markers in it. `more`: some of `variables`. Raises Invalid where the template refuses."""
        guarded = [
            {key: self._guard(value, marker) if isinstance(value, str) else self._inside(value, marker) for key, value in message.items()}
            for message in messages
        ]  # fmt: skip
        try:
            text = self._template.render(
                messages=guarded, add_generation_prompt=True, tools=self._inside(tools, marker), documents=None, **self._tokens,
                **self._inside(more, marker),
            )  # fmt: skip
        except Invalid:
            raise
        except Exception as error:  # a template is somebody else's program: whatever it raises is about this input
            raise Invalid(f"the model's chat template cannot render these messages: {error}", "messages") from None
        if len(text) > PROMPT_CHARS_MAX:
            raise Invalid(f"the rendered prompt is longer than {PROMPT_CHARS_MAX} characters", "messages")
        return text

    def tokens(self, text: str, marker: str) -> array[int]:
        """Token ids of what was rendered."""
        parts = text.split(marker)
        ids = self._vocabulary.encode(parts[0], special=True)
        for part in parts[1:]:
            ids += self._vocabulary.encode(part, special=True)
        return ids

    def _inside(self, value: Any, marker: str) -> Any:
        """The same with every text in it guarded."""
        if isinstance(value, str):
            return self._guard(value, marker)
        if isinstance(value, dict):
            return {self._guard(key, marker): self._inside(one, marker) for key, one in value.items()}
        return [self._inside(one, marker) for one in value] if isinstance(value, list | tuple) else value

    def _shows_tools(self) -> bool:
        try:
            return "probe_of_tools" in self.render([{"role": "user", "content": "."}], "\ufdd0", [PROBE_TOOL])
        except Invalid:
            return False  # it wants another chat than the shortest there is

    def _shows_call(self, arguments: Any) -> bool:
        call = {"id": PROBE_ID, "type": "function", "function": {"name": "f", "arguments": arguments}}
        turns: list[dict[str, Any]] = [
            {"role": "user", "content": "."}, {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": ".", "tool_call_id": PROBE_ID, "name": "f"},
        ]  # fmt: skip
        try:
            return "probed" in self.render(turns, "\ufdd0", [PROBE_TOOL])
        except Invalid:
            return False

    def _spelled(self, marks: Sequence[str]) -> dict[int, bytes]:
        found = {}
        for mark in filter(None, marks):
            ids = self._vocabulary.encode(mark, special=True)
            if len(ids) == 1 and not self._vocabulary.piece(ids[0]):
                found[ids[0]] = mark.encode()
        return found

    def _guard(self, text: str, marker: str) -> str:
        for control in self._controls:
            while control in text:  # again, where two of them overlap
                text = text.replace(control, control[:1] + marker + control[1:])
        return text


def _raise(message: str) -> None:
    raise Invalid(f"the model's chat template says: {message}", "messages")


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:  # fmt: skip
    """As the library has it that templates are written for (Hugging Face transformers)."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
