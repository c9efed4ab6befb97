"""How one chat is put to a model that has more to say than text: the tools it is told of, whether it may reason, what holds it to a call,
and how its answer is to be read.

An answer that is held to a grammar from its first character on is not preceded by reasoning: the grammar has no place for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from cordee.wire import tool_grammar
from cordee.wire.errors import Invalid
from cordee.wire.grammar import Asked, schema_grammar
from cordee.wire.requests import ChatRequest
from cordee.wire.shape import Shape
from cordee.wire.speech import Speech, parsed
from cordee.wire.template import Template
from cordee.wire.tools import CHOICE, TOOLS, Mode, Offer, offer

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
SWITCHES = ("enable_thinking", "thinking")  # what templates call it
EFFORT, KWARGS = "reasoning_effort", "chat_template_kwargs"
CALLS_MAX = 128  # of one answer, as many as there may be tools
Key = Annotated[str, Meta(max_length=64)]
Value = bool | Annotated[int, Meta(ge=-(2**53), le=2**53)] | float | Annotated[str, Meta(max_length=256)] | None
_options = msgspec.json.Decoder(Annotated[dict[Key, Value], Meta(max_length=16)] | None).decode


class Talk:
    """One chat. `asked`: what its answer is held to. `speech` is complete when the prompt is."""

    __slots__ = ("_may_think", "_must_call", "_template", "asked", "effort", "offer", "options", "speech")

    def __init__(
        self,
        template: Template,
        offered: Offer | None,
        options: dict[str, Any],
        effort: str | None,
        answer: Asked | None,
    ) -> None:
        """Raises Invalid where what is asked for cannot be combined."""
        self._template = template
        self.offer = offered
        self.effort = effort
        self.asked = answer
        self.options = options
        self.speech = Speech()
        self._must_call = offered is not None and offered.mode is Mode.REQUIRED
        is_held = answer is not None or self._must_call
        self._may_think = effort != "none" and not is_held
        if offered is not None:
            self.asked = self._asked(offered, answer)
        if not self._may_think:
            for name in SWITCHES:
                if name in template.variables:
                    options.setdefault(name, False)
        if effort is not None and EFFORT in template.variables:
            options.setdefault(EFFORT, effort)

    @property
    def tools(self) -> list[dict[str, Any]] | None:
        """What the template is told."""
        return None if self.offer is None else [tool.fields for tool in self.offer.tools]

    @property
    def has_calls(self) -> bool:
        """Its answer may be calls, which no server that is asked for text can give."""
        return self.offer is not None

    def put(self, prompt: str) -> str:
        """The rendered prompt with what the answer begins behind."""
        template, offered = self._template, self.offer
        marks, family = template.marks, template.family
        is_opened = marks is not None and prompt.rstrip().endswith(marks.start)
        if marks is not None and not self._may_think:
            if is_opened:
                prompt = f"{prompt.rstrip()}\n\n{marks.end}\n\n"
            elif self.effort == "none" and not template.variables.intersection(SWITCHES):
                prompt += f"{marks.start}\n\n{marks.end}\n\n"
            is_opened = False
        is_calling = self._must_call and family.start in self._spelled
        if is_calling:
            prompt += family.start
        self.speech = Speech(
            marks, is_opened, frozenset() if offered is None else offered.names, family,
            CALLS_MAX if offered is not None and offered.is_parallel else 1, is_calling, template.spelled,
        )  # fmt: skip
        return prompt

    def shape(self, inner: Shape, id: str) -> Shape:
        return parsed(inner, self.speech, id)

    @property
    def _spelled(self) -> tuple[str, ...]:
        return tuple(mark.decode() for mark in self._template.spelled.values())

    def _asked(self, offered: Offer, answer: Asked | None) -> Asked | None:
        family = self._template.family

        def parts() -> Sequence[Asked]:
            schemas = [Asked(schema_grammar(it.schema, strict=it.is_strict), it.where) for it in offered.callable_]
            return schemas if answer is None or self._must_call else [*schemas, answer]

        if self._must_call:
            return Asked(tool_grammar.forced(family, offered, self._spelled), TOOLS, parts)
        if answer is not None:
            return Asked(tool_grammar.either(family, offered, self._spelled, answer.grammar), TOOLS, parts)
        if offered.is_parallel and not any(tool.is_strict for tool in offered.callable_):
            return None
        free = tool_grammar.free(family, offered, self._spelled)
        return None if free is None else Asked(free, TOOLS, parts)


def talk(body: ChatRequest, template: Template, answer: Asked | None, *, constrains: bool, model: str) -> Talk | None:
    """None: its answer is nothing but text. `answer`: what it is to be by `response_format`. Raises Invalid."""
    if (
        template.marks is None and body.tools is UNSET and body.tool_choice is UNSET and body.reasoning_effort is None
        and body.chat_template_kwargs is UNSET
    ):  # fmt: skip
        return None
    effort = body.reasoning_effort
    if effort is not None and effort not in EFFORTS:
        raise Invalid(f"{EFFORT!r} is one of {', '.join(EFFORTS)}", EFFORT, code="invalid_value")
    offered = offer(body.tools, body.tool_choice, is_parallel=body.parallel_tool_calls is not False)
    if offered is not None and not template.uses_tools:
        raise Invalid(
            f"{TOOLS!r} is not supported by model {model!r}: its chat template has no place for them", TOOLS,
            code="unsupported_parameter",
        )  # fmt: skip
    if offered is not None and offered.mode is Mode.REQUIRED and not constrains:
        raise Invalid(f"{CHOICE!r} cannot be enforced by this model", CHOICE, code="unsupported_parameter")
    made = Talk(template, offered, _read_options(body.chat_template_kwargs, template.variables), effort, answer)
    if made.asked is not None and not constrains:
        made.asked = None
    return made


def _read_options(raw: Raw | UnsetType, variables: frozenset[str]) -> dict[str, Any]:
    if raw is UNSET:
        return {}
    try:
        options: Mapping[str, Any] = _options(raw) or {}
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        what = str(error).partition(" - at `$")[0]
        raise Invalid(
            f"{KWARGS!r} has at most 16 names with texts, numbers, true or false: {what[:200]}",
            KWARGS,
            code="invalid_value",
        ) from None
    for name in options:
        if name not in variables:
            known = ", ".join(sorted(variables)[:16]) or "none"
            where = f"{KWARGS}.{name}"
            raise Invalid(
                f"the model's chat template has no option {name!r}; it has: {known}", where, code="unknown_parameter"
            )
    return dict(options)
