"""Answers of the completions endpoint: whole, and as server-sent events."""

from __future__ import annotations

from typing import Any

from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.wire.shape import DONE, Choice, Pieces, TextShape, Usage, encode, finish_reason, placed_event, usage


class CompletionShape(TextShape):
    """The bytes of one completion; see wire.shape.Shape."""

    done = DONE

    def __init__(
        self, id: str, model: str, created: int, fingerprint: str, *, with_usage: bool, echo: str = ""
    ) -> None:
        self._common = {
            "id": id, "object": "text_completion", "created": created, "model": model, "system_fingerprint": fingerprint,
        }  # fmt: skip
        self._start = b"data: " + encode(self._common)[:-1] + b',"choices":[{"index":'
        self._null_usage = b',"usage":null}\n\n' if with_usage else b"}\n\n"
        self._echo = echo

    def open(self, choice: int) -> bytes:
        return self.delta(choice, self._echo, None) if self._echo else b""

    def delta(self, choice: int, text: str, logprobs: list[dict[str, Any]] | None) -> bytes:
        return b'%s%d,"text":%s,"logprobs":%s,"finish_reason":null}]%s' % (
            self._start, choice, encode(text), b"null" if logprobs is None else encode(columns(logprobs)), self._null_usage
        )  # fmt: skip

    def close(self, choice: int, why: Finish) -> bytes:
        reason = encode(finish_reason(why))
        return b'%s%d,"text":"","logprobs":null,"finish_reason":%s}]%s' % (
            self._start,
            choice,
            reason,
            self._null_usage,
        )

    def usage(self, used: Usage) -> bytes:
        return self._start[: -len(b'{"index":')] + b'],"usage":' + encode(usage(used)) + b"}\n\n"

    def whole(self, choices: list[Choice], used: Usage) -> bytes:
        return encode(
            {
                **self._common,
                "choices": [
                    {
                        "index": choice.index,
                        "text": self._echo + choice.text,
                        "logprobs": columns(choice.logprobs) if choice.logprobs is not None else None,
                        "finish_reason": finish_reason(choice.why),
                    }
                    for choice in choices
                ],
                "usage": usage(used),
            }
        )

    def placed(self, event: bytes, stream: str, position: str) -> bytes:
        return placed_event(event, stream, position)

    def position(self, pieces: Pieces, token: int, logprobs: TokenLogprobs, offset: int) -> dict[str, Any]:
        def text(token: int) -> str:
            return pieces(token).decode("utf-8", "replace")

        top = {text(other): logprob for other, logprob in logprobs.alternatives}
        return {
            "tokens": text(token),
            "token_logprobs": logprobs.chosen,
            "top_logprobs": top,
            "text_offset": offset + len(self._echo),
        }


def columns(entries: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """This endpoint wants one list a quantity, where chat wants one object a token."""
    return {
        name: [entry[name] for entry in entries] for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    }
