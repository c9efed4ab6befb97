"""A response as it is said: pieces of a chat completion go in, OpenAI's stream of events comes out. Pure; one per response.

The items of an answer follow each other: reasoning, message, calls. An item is announced with its first piece and closed when the next one
begins or the answer ends, so that at any moment at most one is open, and what was sent so far is a complete prefix of the whole. Calls
are told apart by their index; a call of another index closes the one before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from cordee.domain.record import record
from cordee.services.chats.responses.deltas import CallPiece, Delta, Extent, Usage
from cordee.services.chats.responses.said import extent_of
from cordee.services.chats.responses.translate_out import Ending, Status, begun, ended

encode = msgspec.json.Encoder().encode
_TEXT, _REFUSAL, _THOUGHT = "output_text", "refusal", "reasoning_text"
_TERMINAL = {
    Status.COMPLETED: "response.completed",
    Status.INCOMPLETE: "response.incomplete",
    Status.FAILED: "response.failed",
    Status.CANCELLED: "response.incomplete",  # there is no event for it; whoever cancelled knows
}


@record
class Event:
    """One event of the stream: its number, its type and its JSON."""

    number: int
    type: str
    data: bytes

    @property
    def framed(self) -> bytes:
        """As a server-sent event."""
        return b"event: %s\ndata: %s\n\n" % (self.type.encode(), self.data)


class _Open:
    """The item that is being said."""

    __slots__ = ("call", "id", "index", "kind", "logprobs", "pieces")

    def __init__(self, kind: str, id: str, index: int, call: CallPiece | None = None) -> None:
        self.kind = kind
        self.id = id
        self.index = index
        self.call = call
        self.pieces: list[str] = []
        self.logprobs: list[Any] = []

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def item(self, status: str) -> dict[str, Any]:
        """As it is shown, with what was said so far."""
        if self.call is not None:
            return {
                "id": self.id, "type": "function_call", "status": status, "call_id": self.call.id, "name": self.call.name,
                "arguments": self.text,
            }  # fmt: skip
        content = [self.part()] if self.pieces else []
        if self.kind == _THOUGHT:
            return {"id": self.id, "type": "reasoning", "summary": [], "content": content, "status": status}
        return {"id": self.id, "type": "message", "status": status, "role": "assistant", "content": content}

    def part(self) -> dict[str, Any]:
        if self.kind == _TEXT:
            return {"type": _TEXT, "text": self.text, "annotations": [], "logprobs": self.logprobs}
        return {"type": self.kind, ("refusal" if self.kind == _REFUSAL else "text"): self.text}


class Speaking:
    """`fields`: what translate_out.head says of the response; `name`: names items by their prefix."""

    def __init__(self, fields: Mapping[str, Any], name: Callable[[str], str]) -> None:
        self._fields = fields
        self._name = name
        self._number = 0
        self._done: list[dict[str, Any]] = []
        self._open: _Open | None = None
        self.finish: str | None = None
        self.usage: Usage | None = None
        self.extent = Extent()

    @property
    def sent(self) -> int:
        """How many events there were; the next one has this number."""
        return self._number

    def begin(self, *, is_queued: bool = False) -> list[Event]:
        response = begun(self._fields, Status.QUEUED if is_queued else Status.IN_PROGRESS)
        created = self._event("response.created", {"response": response})
        if is_queued:
            return [created, self._event("response.queued", {"response": response})]
        return [created, self.started()]

    def started(self) -> Event:
        return self._event("response.in_progress", {"response": begun(self._fields, Status.IN_PROGRESS)})

    def hear(self, delta: Delta) -> list[Event]:
        """The events of one piece."""
        events: list[Event] = []
        if delta.reasoning:
            self._say(_THOUGHT, "rs", delta.reasoning, (), events)
        if delta.content or (delta.logprobs and self._open is not None and self._open.kind == _TEXT):
            self._say(_TEXT, "msg", delta.content, delta.logprobs, events)
        if delta.refusal:
            self._say(_REFUSAL, "msg", delta.refusal, (), events)
        for call in delta.calls:
            self._call(call, events)
        if delta.finish is not None:
            self.finish = delta.finish
        if delta.usage is not None:
            self.usage = delta.usage
        self.extent = self.extent.plus(delta)
        return events

    def close(self, status: str = "completed") -> list[Event]:
        """Close the open item."""
        events: list[Event] = []
        item = self._open
        if item is None:
            return events
        self._open = None
        place = {"item_id": item.id, "output_index": item.index}
        if item.call is not None:
            done = {**place, "arguments": item.text, "name": item.call.name}
            events.append(self._event("response.function_call_arguments.done", done))
        else:
            place["content_index"] = 0
            what = {_TEXT: "output_text", _REFUSAL: "refusal", _THOUGHT: "reasoning_text"}[item.kind]
            field = "refusal" if item.kind == _REFUSAL else "text"
            more = {"logprobs": item.logprobs} if item.kind == _TEXT else {}
            events.append(self._event(f"response.{what}.done", {**place, field: item.text, **more}))
            events.append(self._event("response.content_part.done", {**place, "part": item.part()}))
        whole = item.item(status)
        self._done.append(whole)
        events.append(self._event("response.output_item.done", {"output_index": item.index, "item": whole}))
        return events

    def response(self, ending: Ending, at: float) -> dict[str, Any]:
        """As it stays; an item that was not closed is incomplete."""
        return ended(self._fields, ending, self.output, self.usage, at)

    def last(self, response: Mapping[str, Any]) -> Event:
        """The terminal event."""
        return self._event(_TERMINAL[Status(response["status"])], {"response": response})

    @property
    def output(self) -> list[dict[str, Any]]:
        """All items so far."""
        return [*self._done, *([self._open.item("incomplete")] if self._open is not None else ())]

    def resume(self, output: Sequence[Mapping[str, Any]], number: int) -> None:
        """Go on behind what another process has said: `output` as it was, its last item open if it is incomplete, and events up to the
        one before `number`."""
        self._number, self.extent = number, extent_of(output)
        calls = 0
        for index, item in enumerate(output):
            self._name(str(item["id"]).partition("_")[0])
            if item["status"] == "incomplete":
                self._open = _reopened(item, index, calls)
            else:
                self._done.append(dict(item))
            calls += item["type"] == "function_call"

    def _say(self, kind: str, prefix: str, text: str, logprobs: Sequence[Any], events: list[Event]) -> None:
        item = self._open
        if item is None or item.kind != kind:
            events += self.close()
            item = self._announce(_Open(kind, self._name(prefix), len(self._done)), events)
            place = {"item_id": item.id, "output_index": item.index, "content_index": 0}
            events.append(self._event("response.content_part.added", {**place, "part": item.part()}))
        item.pieces.append(text)
        delta: dict[str, Any] = {"item_id": item.id, "output_index": item.index, "content_index": 0, "delta": text}
        if kind == _TEXT:
            item.logprobs += logprobs
            delta["logprobs"] = logprobs
        what = {_TEXT: "output_text", _REFUSAL: "refusal", _THOUGHT: "reasoning_text"}[kind]
        events.append(self._event(f"response.{what}.delta", delta))

    def _call(self, call: CallPiece, events: list[Event]) -> None:
        item = self._open
        if item is None or item.call is None or item.call.index != call.index:
            if not call.name:
                return  # more of a call that never began: nothing to add it to
            events += self.close()
            item = self._announce(_Open("call", self._name("fc"), len(self._done), call), events)
        if call.arguments:
            item.pieces.append(call.arguments)
            delta = {"item_id": item.id, "output_index": item.index, "delta": call.arguments}
            events.append(self._event("response.function_call_arguments.delta", delta))

    def _announce(self, item: _Open, events: list[Event]) -> _Open:
        self._open = item
        added = {"output_index": item.index, "item": item.item("in_progress")}
        events.append(self._event("response.output_item.added", added))
        return item

    def _event(self, kind: str, fields: Mapping[str, Any]) -> Event:
        number = self._number
        self._number += 1
        return Event(number, kind, encode({"type": kind, "sequence_number": number, **fields}))


def _reopened(item: Mapping[str, Any], index: int, calls: int) -> _Open:
    if item["type"] == "function_call":
        opened = _Open("call", item["id"], index, CallPiece(calls, item["call_id"], item["name"], ""))
        opened.pieces.append(item["arguments"])
        return opened
    part = item["content"][0]
    opened = _Open(part["type"], item["id"], index)
    opened.pieces.append(part.get("text", part.get("refusal", "")))
    opened.logprobs += part.get("logprobs", ())
    return opened
