"""The rest of a stream from another server, made to look like the stream that broke off: same id, same envelope, no second
role, one finish, one [DONE], usage counted once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import msgspec

from cordee.adapters.upstreams.events import Broken, Lines, decode
from cordee.adapters.upstreams.faults import Busy, Fault, judge
from cordee.adapters.upstreams.journal import Journal
from cordee.adapters.upstreams.passing import DONE
from cordee.ports import Receiver

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Continuing:
    """http.client.Receiver of an attempt that goes on with `journal`. `is_chat`: what the client speaks."""

    __slots__ = ("_fault", "_is_chat", "_is_finished", "_journal", "_lines", "_receiver", "_verdict")

    def __init__(self, receiver: Receiver, journal: Journal, *, is_chat: bool) -> None:
        self._receiver = receiver
        self._journal = journal
        self._is_chat = is_chat
        self._lines = Lines()
        self._is_finished = False
        self._verdict: Busy | Fault | None = None
        self._fault = False  # it was told already

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        verdict = judge(status, headers)
        is_stream = any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers)
        if isinstance(verdict, Busy | Fault):
            self._verdict = verdict
        elif status != 200 or not is_stream:
            self._verdict = Fault(f"it cannot go on with an answer that has begun (status {status})", ran=False)

    def body(self, data: bytes) -> None:
        if self._verdict is not None or self._fault:
            return
        try:
            events = [self._rewritten(payload) for payload in self._lines.feed(data)]
        except Broken as broken:
            self._fault = True
            self._receiver.broken(str(broken), ran=True)
            return
        out = b"".join(events)
        if out:
            self._receiver.body(out)

    def complete(self) -> None:
        verdict = self._verdict
        if self._fault:
            return
        if isinstance(verdict, Busy):
            self._receiver.busy(verdict.retry_after_s)
        elif isinstance(verdict, Fault):
            self._receiver.broken(verdict.cause, ran=verdict.ran)
        else:
            self._end()

    def closed(self) -> None:
        self.complete()

    def broken(self, cause: str, *, ran: bool) -> None:
        if not self._fault:
            self._receiver.broken(cause, ran=ran)

    def _end(self) -> None:
        with contextlib.suppress(Broken):  # half a line: without [DONE] it is broken anyway
            self._lines.end()
        if not self._lines.is_done:
            self._receiver.broken("its stream ended without [DONE]", ran=True)
        elif not self._is_finished:
            self._receiver.broken("its stream ended without a finish_reason", ran=True)
        else:
            self._receiver.body(DONE)
            self._receiver.complete()

    def _rewritten(self, payload: bytes) -> bytes:
        """One event in the old envelope; empty where nothing of it is new to the client."""
        decode(payload)  # an error, or garbage, is found here
        event, first = _decode(payload), self._journal.first
        event["id"], event["created"], event["model"] = first.id, first.created, first.model
        event["object"] = first.object
        event.pop("prompt_token_ids", None)
        if first.system_fingerprint is not None:
            event["system_fingerprint"] = first.system_fingerprint
        usage = event.get("usage")
        if isinstance(usage, dict):
            self._count_once(usage)
        event["choices"] = [choice for choice in event.get("choices") or [] if self._has_news(choice)]
        if not event["choices"] and not usage:
            return b""
        return b"data: " + _encode(event) + b"\n\n"

    def _has_news(self, choice: dict[str, Any]) -> bool:
        if self._is_chat and "delta" not in choice:  # it goes on through the completions endpoint
            choice["delta"] = {"content": choice.pop("text", "")}
            choice.setdefault("logprobs", None)
        delta = choice.get("delta")
        if isinstance(delta, dict):
            delta.pop("role", None)
            if not delta.get("content"):
                delta.pop("content", None)
        if choice.get("finish_reason") is not None:
            if self._is_finished:
                return False
            self._is_finished = True
            return True
        return bool(delta) if self._is_chat else bool(choice.get("text"))

    def _count_once(self, usage: dict[str, Any]) -> None:
        """What this server took for prompt was answer before."""
        emitted = self._journal.emitted
        prompt, answer = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if isinstance(prompt, int) and isinstance(answer, int):
            usage["prompt_tokens"] = max(0, prompt - emitted)
            usage["completion_tokens"] = answer + emitted
            usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
