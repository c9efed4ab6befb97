"""A response is asked of the gateways, as a chat completion on behalf of its caller."""

from __future__ import annotations

from collections.abc import Mapping

from cordee.services.base.door import Asked, RefusedError
from cordee.services.base.errors import Problem
from cordee.services.chats.responses.items import Item
from cordee.services.chats.responses.translate_in import CHAT_PATH, chat, shortened
from cordee.services.chats.responses.translate_out import refusal_of
from cordee.services.chats.responses.work import Work

TOO_LONG = "context_length_exceeded"
CUTS_MAX = 12  # times that the later half is taken: a context 4096 times too long
KEPT = {"X-Cordee-Resumable": "1"}  # the gateways keep this answer, so that it can be gone on with


class Asking:
    """The chat completion of one response, which may have to be asked for again with less. `headers`: that go with it."""

    def __init__(
        self, work: Work, *, stream: bool, priority: str, timeout_s: float, headers: Mapping[str, str]
    ) -> None:
        self._work = work
        self._stream = stream
        self._priority = priority
        self._timeout_s = timeout_s
        self._headers = dict(headers)
        self._items: list[Item] = list(work.items)
        self._cuts = 0

    @property
    def asked(self) -> Asked:
        """Raises Invalid."""
        body = chat(self._work.asked, self._items, stream=self._stream)
        return Asked(
            "POST", CHAT_PATH, body, priority=self._priority, timeout_s=self._timeout_s,
            headers={"Content-Type": "application/json", **self._headers},
        )  # fmt: skip

    def is_shortened(self, refused: RefusedError) -> bool:
        """Whether asking again makes sense, because what came first may be left out and was."""
        if self._work.asked.truncation != "auto" or refusal_of(refused.body)[2] != TOO_LONG or self._cuts == CUTS_MAX:
            return False
        self._cuts += 1
        self._items = shortened(self._items)
        return bool(self._items)


def problem_of(refused: RefusedError) -> Problem:
    """A gateway's refusal as this service's own."""
    message, param, code = refusal_of(refused.body)
    wait = refused.retry_after_s
    return Problem(refused.status, message, param, code, None if wait is None else max(1, round(wait)))


def away() -> Problem:
    return Problem(503, "No gateway could be asked, or none answered in time; try again.", None, "gateways_away", 2)
