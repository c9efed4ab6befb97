"""What a model has said, told apart: its answer, its reasoning, its calls of tools."""

from __future__ import annotations

from typing import Any, Protocol

from cordee.domain.chunk import Finish
from cordee.domain.record import record
from cordee.wire.shape import Shape, Usage

CALLS = "tool_calls"  # the finish_reason of an answer that calls


@record
class ToolCall:
    """A call, or more of one: `id` and `name` are "" in all its pieces but the first, `arguments` is JSON, a piece of it or the whole."""

    index: int
    id: str
    name: str
    arguments: str

    @property
    def fields(self) -> dict[str, Any]:
        """As OpenAI's API has them in a whole answer."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}

    @property
    def delta(self) -> dict[str, Any]:
        """As it has them in a stream."""
        if self.name:
            return {"index": self.index, **self.fields}
        return {"index": self.index, "function": {"arguments": self.arguments}}


@record
class Said:
    """A piece of a choice, or the whole of it."""

    content: str = ""
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()

    @property
    def thoughts(self) -> dict[str, str]:
        """The reasoning under both names that clients look for: vLLM's and DeepSeek's."""
        return {"reasoning_content": self.reasoning, "reasoning": self.reasoning} if self.reasoning else {}


@record
class SaidChoice:
    """One complete choice; `reason`: its finish_reason."""

    index: int
    said: Said
    logprobs: list[dict[str, Any]] | None
    reason: str


class SpeakingShape(Shape, Protocol):
    """A format that has places for reasoning and for calls."""

    def said(self, choice: int, said: Said, logprobs: list[dict[str, Any]] | None) -> bytes: ...

    def said_last(self, choice: int, said: Said, why: Finish, reason: str) -> bytes:
        """What was held back, with the end of the choice."""
        ...

    def said_whole(self, choices: list[SaidChoice], used: Usage) -> bytes: ...
