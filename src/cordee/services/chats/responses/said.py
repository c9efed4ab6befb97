"""How much of an answer there is, its beginning up to an extent, and what a stored stream of events amounts to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from cordee.services.chats.responses.deltas import Delta, Extent

Items = Sequence[Mapping[str, Any]]


def extent_of(output: Items) -> Extent:
    """Of all items of an output."""
    texts = words_of(output)
    calls = sum(item["type"] == "function_call" for item in output)
    return Extent(len(texts[0]), len(texts[1]), calls, len(texts[2]))


def words_of(output: Items) -> tuple[str, str, str]:
    """All reasoning, all text, all arguments."""
    thoughts: list[str] = []
    said: list[str] = []
    arguments: list[str] = []
    for item in output:
        if item["type"] == "function_call":
            arguments.append(item["arguments"])
        else:
            into = thoughts if item["type"] == "reasoning" else said
            into += [_text(part) for part in item["content"]]
    return "".join(thoughts), "".join(said), "".join(arguments)


def cut(output: Items, extent: Extent) -> list[dict[str, Any]]:
    """The output up to an extent: whole items as they are, then one that is incomplete."""
    thoughts, said, calls, arguments = extent.reasoning, extent.content, extent.calls, extent.arguments
    kept: list[dict[str, Any]] = []
    for item in output:
        if item["type"] == "function_call":
            if not calls:
                break
            calls -= 1
            text = item["arguments"][:arguments]
            arguments -= len(text)
            is_whole = len(text) == len(item["arguments"])
            kept.append({**item, "arguments": text, "status": item["status"] if is_whole else "incomplete"})
            continue
        whole = "".join(_text(part) for part in item["content"])
        left = thoughts if item["type"] == "reasoning" else said
        text = whole[:left]
        if item["type"] == "reasoning":
            thoughts -= len(text)
        else:
            said -= len(text)
        if whole and not text:
            break
        kept.append(
            dict(item)
            if text == whole
            else {**item, "content": _shorter(item["content"], text), "status": "incomplete"}
        )
    return kept


class Skipping:
    """An answer that comes again from its beginning, for who has a part of it. `output`: that part."""

    def __init__(self, output: Items) -> None:
        self.left = extent_of(output)
        self._known = words_of(output)
        self._at = [0, 0, 0]
        self.is_same = True  # what came again is how the part begins

    @property
    def is_over(self) -> bool:
        return self.left == Extent()

    def note(self, skipped: Delta) -> None:
        """Compare what was passed over with what is known."""
        arguments = "".join(call.arguments for call in skipped.calls)
        for kind, heard in enumerate((skipped.reasoning, skipped.content + skipped.refusal, arguments)):
            self.is_same = self.is_same and self._known[kind].startswith(heard, self._at[kind])
            self._at[kind] += len(heard)


def folded(events: Iterable[bytes]) -> tuple[list[dict[str, Any]], int]:
    """The output that a stored stream of events amounts to, and the number behind its last one. What is open is incomplete."""
    items: dict[int, dict[str, Any]] = {}
    number = 0
    for line in events:
        event = msgspec.json.decode(line)
        number = event["sequence_number"] + 1
        match event["type"]:
            case "response.output_item.added":
                items[event["output_index"]] = {**event["item"], "status": "incomplete"}
            case "response.content_part.added":
                items[event["output_index"]]["content"] = [event["part"]]
            case "response.output_text.delta":
                part = items[event["output_index"]]["content"][0]
                part["text"] += event["delta"]
                part["logprobs"] += event["logprobs"]
            case "response.reasoning_text.delta":
                items[event["output_index"]]["content"][0]["text"] += event["delta"]
            case "response.refusal.delta":
                items[event["output_index"]]["content"][0]["refusal"] += event["delta"]
            case "response.function_call_arguments.delta":
                items[event["output_index"]]["arguments"] += event["delta"]
            case "response.output_item.done":
                items[event["output_index"]] = event["item"]
            case _:
                pass
    return [items[index] for index in sorted(items)], number


def _text(part: Mapping[str, Any]) -> str:
    return str(part.get("text", part.get("refusal", "")))


def _shorter(content: Sequence[Mapping[str, Any]], text: str) -> list[dict[str, Any]]:
    """The one part that an item of ours has, shortened. Which tokens the probabilities of were for is not known any more."""
    part = dict(content[0])
    if "logprobs" in part:
        part["logprobs"] = []
    return [{**part, ("refusal" if part["type"] == "refusal" else "text"): text}]
