"""The response object: what was asked for, shown back, with what became of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import msgspec

from cordee.domain.record import record
from cordee.services.chats.responses import tools
from cordee.services.chats.responses.deltas import Usage
from cordee.services.chats.responses.request import Create

_RATE_LIMITED = 429


class Status(Enum):
    """Of a response, as OpenAI names them."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        return self not in (Status.QUEUED, Status.IN_PROGRESS)


@record
class Ending:
    """How a response ended. `reason`: of an incomplete one, None where it was interrupted; `code` and `message`: of a failed one."""

    status: Status
    reason: str | None = None
    code: str | None = None
    message: str | None = None


CANCELLED = Ending(Status.CANCELLED)
INTERRUPTED = Ending(Status.INCOMPLETE)


def ending_of(finish: str | None) -> Ending:
    """What a finish_reason of chat completions means."""
    match finish:
        case "length":
            return Ending(Status.INCOMPLETE, "max_output_tokens")
        case "content_filter":
            return Ending(Status.INCOMPLETE, "content_filter")
        case None:
            return failed("the answer broke off before its end")
        case _:
            return Ending(Status.COMPLETED)


def failed(message: str, status: int | None = None) -> Ending:
    """`status`: with which a gateway refused. The codes are those that OpenAI has for responses."""
    code = {_RATE_LIMITED: "rate_limit_exceeded", 400: "invalid_prompt", 422: "invalid_prompt"}.get(status or 0)
    return Ending(Status.FAILED, None, code or "server_error", message[:512])


def head(asked: Create, response_id: str, created: float) -> dict[str, Any]:
    """The fields that stay as they are from the first event to the last. Raises Invalid."""
    reasoning, text = asked.reasoning, asked.text
    shown_format = {"type": "text"} if text is None or text.format is None else msgspec.to_builtins(text.format)
    if shown_format["type"] == "json_schema":
        shown_format["strict"] = shown_format.get("strict") is not False
    conversation = asked.conversation_id
    return {
        "id": response_id,
        "object": "response",
        "created_at": int(created),
        "background": bool(asked.background),
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "max_tool_calls": None,
        "metadata": asked.metadata or {},
        "model": asked.model,
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "previous_response_id": asked.previous_response_id,
        "conversation": None if conversation is None else {"id": conversation},
        "prompt_cache_key": asked.prompt_cache_key,
        "prompt_cache_retention": asked.prompt_cache_retention,
        "reasoning": {"effort": reasoning.effort if reasoning is not None else None, "summary": None},
        "safety_identifier": asked.safety_identifier,
        "service_tier": asked.service_tier or "auto",
        "store": asked.is_stored,
        "temperature": 1.0 if asked.temperature is None else asked.temperature,
        "text": {"format": shown_format, "verbosity": (text.verbosity if text is not None else None) or "medium"},
        "tool_choice": tools.shown_choice(tools.chosen(asked.tool_choice)),
        "tools": [tools.shown(tool) for tool in tools.functions(asked.tools)],
        "top_logprobs": asked.top_logprobs or 0,
        "top_p": 1.0 if asked.top_p is None else asked.top_p,
        "truncation": asked.truncation or "disabled",
        "user": asked.user,
    }


def begun(fields: Mapping[str, Any], status: Status) -> dict[str, Any]:
    """The response before its end."""
    return {
        **fields, "status": status.value, "completed_at": None, "error": None, "incomplete_details": None, "output": [],
        "usage": None,
    }  # fmt: skip


def ended(
    fields: Mapping[str, Any], ending: Ending, output: Sequence[Mapping[str, Any]], usage: Usage | None, at: float
) -> dict[str, Any]:
    """The response as it stays. `at`: seconds of the epoch."""
    return {
        **fields,
        "status": ending.status.value,
        "completed_at": int(at) if ending.status is Status.COMPLETED else None,
        "error": None if ending.code is None else {"code": ending.code, "message": ending.message},
        "incomplete_details": None if ending.reason is None else {"reason": ending.reason},
        "output": list(output),
        "usage": None if usage is None else shown_usage(usage),
    }


def shown_usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }


_PLACES = (
    ("messages", "input"), ("max_completion_tokens", "max_output_tokens"), ("max_tokens", "max_output_tokens"),
    ("response_format.json_schema", "text.format"), ("response_format", "text.format"), ("reasoning_effort", "reasoning.effort"),
)  # fmt: skip


class _Said(msgspec.Struct):
    message: str = "the gateway refused this request"
    param: str | None = None
    code: str | None = None


class _Body(msgspec.Struct):
    error: _Said


def refusal_of(body: bytes) -> tuple[str, str | None, str | None]:
    """Message, parameter and code of a gateway's refusal of the chat completion, with the parameters named as they are here."""
    try:
        said = msgspec.json.decode(body, type=_Body).error
    except (msgspec.MsgspecError, UnicodeError):
        said = _Said()
    param = said.param
    if param is None:
        return said.message, None, said.code
    named = param.replace(".function.", ".")
    for theirs, ours in _PLACES:
        if named == theirs or named.startswith((theirs + ".", theirs + "[")):
            # Which turn it was says nothing to a client who sent items.
            named = ours if ours == "input" else ours + named[len(theirs) :]
            break
    return said.message.replace(param, named), named, said.code
