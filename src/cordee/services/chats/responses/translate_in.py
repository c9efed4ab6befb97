"""A response that is asked for, as the chat completion that makes it. Pure.

Items become turns: a message is a turn, calls of functions that follow each other belong to one turn of the assistant together with what
it said and thought before them, and each result is a turn of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from cordee.services.chats.responses import tools
from cordee.services.chats.responses.items import Item
from cordee.services.chats.responses.request import Create, JsonObject, JsonSchema, Plain
from cordee.wire.errors import Invalid

TURNS_MAX = 4096  # of one chat completion
CHAT_PATH = "/v1/chat/completions"


def chat(asked: Create, items: Sequence[Item], *, stream: bool, seed: int | None = None) -> bytes:
    """The body of the chat completion. `items`: all that the model is to read, from the beginning on. Raises Invalid."""
    body: dict[str, Any] = {"model": asked.model, "messages": messages(asked.instructions, items)}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if seed is not None:
        body["seed"] = seed
    for name, value in (
        ("temperature", asked.temperature), ("top_p", asked.top_p), ("max_completion_tokens", asked.max_output_tokens),
        ("service_tier", asked.service_tier), ("user", asked.user), ("prompt_cache_key", asked.prompt_cache_key),
        ("safety_identifier", asked.safety_identifier),
    ):  # fmt: skip
        if value is not None:
            body[name] = value
    if asked.wants_logprobs:
        body |= {"logprobs": True, "top_logprobs": asked.top_logprobs or 0}
    return msgspec.json.encode(body | _format(asked) | _tools(asked) | _effort(asked))


def messages(instructions: str | None, items: Sequence[Item]) -> list[dict[str, Any]]:
    """Raises Invalid when there are none, or too many."""
    turns: list[dict[str, Any]] = []
    if instructions:
        turns.append({"role": "system", "content": instructions})
    thoughts = ""
    for item in items:
        match item["type"]:
            case "message":
                turn = {"role": item["role"], "content": _content(item["content"])}
                turns.append(_thinking(turn, thoughts))
                thoughts = ""
            case "function_call":
                if not turns or turns[-1]["role"] != "assistant" or thoughts:
                    turns.append(_thinking({"role": "assistant", "content": None}, thoughts))
                    thoughts = ""
                function = {"name": item["name"], "arguments": item["arguments"]}
                call = {"id": item["call_id"], "type": "function", "function": function}
                turns[-1].setdefault("tool_calls", []).append(call)
            case "function_call_output":
                output = item["output"]
                said = output if isinstance(output, str) else _content(output)
                turns.append({"role": "tool", "tool_call_id": item["call_id"], "content": said})
            case "reasoning":
                thoughts += "".join(part["text"] for part in item.get("content") or ())
            case kind:
                raise Invalid(f"an item of the type {str(kind)[:64]!r} cannot be read by a model here", "input")
    if not turns:
        raise Invalid("'input' is empty and nothing came before", "input", "missing_required_parameter")
    if len(turns) > TURNS_MAX:
        raise Invalid(f"these are {len(turns)} turns; at most {TURNS_MAX} are allowed", "input")
    return turns


def shortened(items: Sequence[Item]) -> list[Item]:
    """The later half of the items, from a turn of the user on; fewer than two cannot be shortened. For `truncation: auto`."""
    starts = [at for at, item in enumerate(items) if item["type"] == "message" and item["role"] == "user"]
    later = [at for at in starts if at >= max(1, len(items) // 2)] or [at for at in starts if at]
    return list(items[later[0] :]) if later else []


def _thinking(turn: dict[str, Any], thoughts: str) -> dict[str, Any]:
    return {**turn, "reasoning_content": thoughts} if thoughts and turn["role"] == "assistant" else turn


def _content(parts: Sequence[Item]) -> str | list[dict[str, Any]]:
    """Text, as far as it is nothing else."""
    if any(part["type"] == "input_image" for part in parts):
        return [_part(part) for part in parts]
    return "".join(str(part.get("text", part.get("refusal", ""))) for part in parts)


def _part(part: Item) -> dict[str, Any]:
    if part["type"] == "input_image":
        return {"type": "image_url", "image_url": {"url": part["image_url"], "detail": part["detail"]}}
    return {"type": "text", "text": part.get("text", part.get("refusal", ""))}


def _format(asked: Create) -> dict[str, Any]:
    text = asked.text
    made: dict[str, Any] = {}
    match text.format if text is not None else None:
        case None | Plain():
            pass
        case JsonObject():
            made["response_format"] = {"type": "json_object"}
        case JsonSchema(name, schema, strict, description):
            described = {} if description is None else {"description": description}
            shape = {"name": name, "schema": schema, "strict": strict is not False, **described}
            made["response_format"] = {"type": "json_schema", "json_schema": shape}
    if text is not None and text.verbosity is not None:
        made["verbosity"] = text.verbosity
    return made


def _tools(asked: Create) -> dict[str, Any]:
    offered = tools.functions(asked.tools)
    choice = tools.chosen(asked.tool_choice)
    made: dict[str, Any] = {}
    if offered:
        made["tools"] = [tools.asked(tool) for tool in offered]
        if asked.parallel_tool_calls is not None:
            made["parallel_tool_calls"] = asked.parallel_tool_calls
    if choice != "auto":
        made["tool_choice"] = tools.asked_choice(choice)
    return made


def _effort(asked: Create) -> dict[str, Any]:
    effort = asked.reasoning.effort if asked.reasoning is not None else None
    return {} if effort is None else {"reasoning_effort": effort}
