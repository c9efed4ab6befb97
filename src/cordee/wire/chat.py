"""Answers of the chat completions endpoint: whole, and as server-sent events."""

from __future__ import annotations

from typing import Any

from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.wire.said import Said, SaidChoice
from cordee.wire.shape import DONE, Choice, Pieces, TextShape, Usage, encode, finish_reason, placed_event, usage


def logprob_entry(pieces: Pieces, token: int, logprobs: TokenLogprobs) -> dict[str, Any]:
    """One position of `logprobs.content`."""

    def one(token: int, logprob: float) -> dict[str, Any]:
        piece = pieces(token)
        return {"token": piece.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(piece)}

    return {**one(token, logprobs.chosen), "top_logprobs": [one(*pair) for pair in logprobs.alternatives]}


class ChatShape(TextShape):
    """The bytes of one chat answer; see wire.shape.Shape and wire.said.SpeakingShape."""

    done = DONE

    def __init__(self, id: str, model: str, created: int, fingerprint: str, *, with_usage: bool) -> None:
        self._common = {"id": id, "created": created, "model": model, "system_fingerprint": fingerprint}
        start = {"id": id, "object": "chat.completion.chunk", "created": created, "model": model}
        start["system_fingerprint"] = fingerprint
        self._start = b"data: " + encode(start)[:-1] + b',"choices":[{"index":'
        self._null_usage = b',"usage":null}\n\n' if with_usage else b"}\n\n"

    def open(self, choice: int) -> bytes:
        return self._event(choice, b'{"role":"assistant","content":""}', b"null", b"null")

    def delta(self, choice: int, text: str, logprobs: list[dict[str, Any]] | None) -> bytes:
        if logprobs is None:
            return b'%s%d,"delta":{"content":%s},"logprobs":null,"finish_reason":null}]%s' % (
                self._start, choice, encode(text), self._null_usage
            )  # fmt: skip
        return self._event(
            choice, b'{"content":%s}' % encode(text), encode({"content": logprobs, "refusal": None}), b"null"
        )

    def close(self, choice: int, why: Finish) -> bytes:
        return self._event(choice, b"{}", b"null", encode(finish_reason(why)))

    def said(self, choice: int, said: Said, logprobs: list[dict[str, Any]] | None) -> bytes:
        entries = b"null" if logprobs is None else encode({"content": logprobs, "refusal": None})
        return self._event(choice, encode(_delta(said)), entries, b"null")

    def said_last(self, choice: int, said: Said, why: Finish, reason: str) -> bytes:
        return self._event(choice, encode(_delta(said)), b"null", encode(reason))

    def usage(self, used: Usage) -> bytes:
        return self._start[: -len(b'{"index":')] + b'],"usage":' + encode(usage(used)) + b"}\n\n"

    def whole(self, choices: list[Choice], used: Usage) -> bytes:
        said = [
            _whole(choice.index, _message(choice.text), choice.logprobs, finish_reason(choice.why))
            for choice in choices
        ]
        return self._whole(said, used)

    def said_whole(self, choices: list[SaidChoice], used: Usage) -> bytes:
        said = []
        for choice in choices:
            calls = {"tool_calls": [call.fields for call in choice.said.calls]} if choice.said.calls else {}
            message = _message(choice.said.content or (None if calls else "")) | choice.said.thoughts | calls
            said.append(_whole(choice.index, message, choice.logprobs, choice.reason))
        return self._whole(said, used)

    def _whole(self, choices: list[dict[str, Any]], used: Usage) -> bytes:
        return encode({**self._common, "object": "chat.completion", "choices": choices, "usage": usage(used)})

    def placed(self, event: bytes, stream: str, position: str) -> bytes:
        return placed_event(event, stream, position)

    def position(self, pieces: Pieces, token: int, logprobs: TokenLogprobs, offset: int) -> dict[str, Any]:
        return logprob_entry(pieces, token, logprobs)

    def _event(self, choice: int, delta: bytes, logprobs: bytes, reason: bytes) -> bytes:
        return b'%s%d,"delta":%s,"logprobs":%s,"finish_reason":%s}]%s' % (
            self._start, choice, delta, logprobs, reason, self._null_usage
        )  # fmt: skip


def _message(content: str | None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "refusal": None, "annotations": []}


def _whole(index: int, message: dict[str, Any], logprobs: list[dict[str, Any]] | None, reason: str) -> dict[str, Any]:
    entries = {"content": logprobs, "refusal": None} if logprobs is not None else None
    return {"index": index, "message": message, "logprobs": entries, "finish_reason": reason}


def _delta(said: Said) -> dict[str, Any]:
    """Only what there is of it."""
    content = {"content": said.content} if said.content else {}
    return {**content, **said.thoughts, **({"tool_calls": [call.delta for call in said.calls]} if said.calls else {})}
