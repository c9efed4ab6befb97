"""The way from a service to the gateways: any of them, the next one when one does not answer, and on behalf of whom it asks.

A request that cannot have reached a gateway is asked of the next. One that may have is asked again only where that does no harm: it
reads, or gateways know it again by its Idempotency-Key. A stream that breaks off is gone on with at another gateway, behind the last
event that came whole. Everything has a limit: tries, time, and what is kept in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx
import msgspec

from cordee.config.sections.services import Asking
from cordee.policy.living import Living
from cordee.services.base.door import Asked, DoorError, RefusedError, Streamed, Whole
from cordee.services.base.sse import Events
from cordee.wire.vouch import HEADER, TO_GATEWAYS, Vouched, vouch

DONE = b"[DONE]"
JSON = "application/json"
READING = frozenset({"GET", "HEAD"})
# Where gateways know a request again by its key, or where doing it twice costs a second computation and nothing else.
CALLS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank", "/v1/score"})
LATER = frozenset(
    {502, 503, 504}
)  # of an answer to somebody who comes back for the rest: its store or worker may be back soon
REFUSAL_BYTES_MAX = 64 * 1024  # read of an answer that says no
_encode = msgspec.json.Encoder().encode


class Gateways:
    """Port Door. `addresses`: HOST:PORT of each gateway; `secret`: the installation's; `now`: seconds of the epoch. One event loop;
    `close` at the end."""

    def __init__(self, addresses: Sequence[str], secret: bytes, now: Callable[[], float], settings: Asking) -> None:
        assert addresses, "without a gateway there is nobody to ask"
        self._bases = [f"http://{address}" for address in addresses]
        self._secret = secret
        self._now = now
        self._settings = settings
        self._living = Living(len(addresses), settings.rest_s)
        most = settings.connections_max
        self._client = httpx.AsyncClient(
            limits=httpx.Limits(max_connections=most, max_keepalive_connections=min(most, len(addresses) * 16)),
            trust_env=False,
            follow_redirects=False,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def ask(self, caller: Vouched, asked: Asked) -> Whole:
        request = _Request(asked, {})
        async with aclosing(self._answers(caller, request)) as answers:
            async for answer in answers:
                try:
                    async with asyncio.timeout_at(request.due_s):
                        body = await self._body(answer, self._settings.answer_bytes_max)
                except (httpx.TransportError, TimeoutError) as error:
                    request.failed(error)
                    continue
                return Whole(answer.status_code, dict(answer.headers), body)
        raise request.given_up()

    @asynccontextmanager
    async def stream(self, caller: Vouched, asked: Asked) -> AsyncIterator[AsyncIterator[Streamed]]:
        request = _Request(asked, {"x-cordee-resumable": "1", "accept": "text/event-stream"})
        async with aclosing(self._answers(caller, request)) as answers:
            # The first answer is looked at here: a refusal is raised where the block is entered.
            first = await anext(answers, None)
            if first is None:
                raise request.given_up()
            await self._refuse(first, "text/event-stream")
            async with aclosing(self._events(first, answers, request)) as events:
                yield events

    @asynccontextmanager
    async def fetch(self, caller: Vouched, asked: Asked) -> AsyncIterator[AsyncIterator[bytes]]:
        request = _Request(asked, {})
        async with aclosing(self._answers(caller, request)) as answers:
            answer = await anext(answers, None)
            if answer is None:
                raise request.given_up()
            await self._refuse(answer)
            async with aclosing(_pieces(answer, request)) as pieces:
                yield pieces

    async def _events(
        self, answer: httpx.Response, answers: AsyncIterator[httpx.Response], request: _Request
    ) -> AsyncGenerator[Streamed, None]:
        """Of this answer, and of those after it when it breaks off."""
        last_id, has_any = "", False
        while True:
            events = Events(self._settings.event_bytes_max)
            try:
                async with aclosing(_pieces(answer, request)) as pieces:
                    async for piece in pieces:
                        for event in events.feed(piece):
                            has_any, last_id = True, event.id or (last_id if event.data == DONE else "")
                            yield event
                            if event.data == DONE:
                                return
                            request.tries = 0  # it goes on: what failed before is past
            except _BrokenError as error:
                request.failed(error)
            else:
                if not last_id:  # other streams end without [DONE], and so does one that ended in an error
                    return
            if has_any and not last_id:
                raise DoorError(
                    "the stream broke off, and its events have no ids by which another gateway could go on with it"
                )
            if has_any:
                request.headers["last-event-id"] = last_id
            while True:
                following = await anext(answers, None)
                if following is None:
                    raise request.given_up()
                if following.status_code not in LATER or not has_any:
                    break
                request.failed(DoorError(f"a gateway answered {following.status_code}"))
                await following.aclose()
            answer = following
            if has_any and not _is_stream(answer):
                said = (await self._body(answer, REFUSAL_BYTES_MAX))[:REFUSAL_BYTES_MAX]
                raise DoorError(
                    f"the stream broke off and cannot be gone on with: a gateway answered {answer.status_code} "
                    f"({_message(said)})"
                )
            if not has_any:
                await self._refuse(answer, "text/event-stream")

    async def _answers(self, caller: Vouched, request: _Request) -> AsyncGenerator[httpx.Response, None]:
        """Answers to the same request, of one gateway after the other, for as long as asking again makes sense. Each is closed when
        the next is asked for."""
        settings, loop, tried = self._settings, asyncio.get_running_loop(), set[int]()
        pause_s = settings.pause_s
        while request.may_go_on and request.tries < settings.tries_max:
            index = self._living.ask(loop.time(), tried)
            if index is None:  # all of them were tried, or have been found away just now
                if request.due_s - loop.time() <= pause_s:
                    return
                await asyncio.sleep(pause_s)
                pause_s = min(settings.pause_s_max, pause_s * 2)
                tried.clear()
                index = self._living.ask(loop.time())
                if index is None:
                    request.tries += 1
                    continue
            tried.add(index)
            request.tries += 1
            built = self._client.build_request(
                request.asked.method, self._bases[index] + request.asked.path, content=request.content,
                headers={**request.headers, HEADER: vouch(caller, TO_GATEWAYS, self._secret, self._now())},
                timeout=httpx.Timeout(request.left_s(), connect=settings.connect_s),
            )  # fmt: skip
            try:
                async with asyncio.timeout_at(request.due_s):
                    answer = await self._client.send(built, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                self._living.note_away(loop.time(), index)
                request.failed(error, ran=False)
                continue
            except httpx.PoolTimeout as error:
                raise DoorError(f"all {settings.connections_max} connections to gateways are in use") from error
            except (httpx.TransportError, TimeoutError) as error:
                request.failed(error)
                continue
            try:
                yield answer
            finally:
                await answer.aclose()

    async def _refuse(self, answer: httpx.Response, wanted: str = "") -> None:
        if answer.is_success and (not wanted or _is_stream(answer)):
            return
        body = await self._body(answer, REFUSAL_BYTES_MAX)
        raise RefusedError(answer.status_code, body, _seconds(answer.headers.get("retry-after")))

    async def _body(self, answer: httpx.Response, bytes_max: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for piece in answer.aiter_raw():
            size += len(piece)
            if size > bytes_max:
                raise DoorError(f"the answer is longer than {bytes_max} bytes")
            parts.append(piece)
        return b"".join(parts)


class _BrokenError(Exception):
    """An answer has broken off."""


class _Request:
    """What is asked, how often it was, and whether it may be asked again."""

    def __init__(self, asked: Asked, headers: dict[str, str]) -> None:
        self.asked = asked
        self.due_s = asyncio.get_running_loop().time() + asked.timeout_s
        self.tries = 0
        self.may_go_on = True
        self.why: BaseException | None = None
        self.content, is_json, self._is_whole = _content(asked.body)
        self.headers = {name.lower(): value for name, value in (asked.headers or {}).items()} | headers
        if is_json:
            self.headers.setdefault("content-type", JSON)
        self.headers.setdefault("accept-encoding", "identity")
        if asked.key:
            self.headers["idempotency-key"] = asked.key
        if asked.priority:
            self.headers["x-cordee-priority"] = asked.priority

    def left_s(self) -> float:
        return max(0.0, self.due_s - asyncio.get_running_loop().time())

    def failed(self, why: BaseException, *, ran: bool = True) -> None:
        """No whole answer came. `ran`: a gateway may have worked on it."""
        self.why = why
        is_safe = self.asked.method in READING or self.asked.path.partition("?")[0] in CALLS
        self.may_go_on = self.left_s() > 0 and (not ran or (self._is_whole and is_safe))

    def given_up(self) -> DoorError:
        said = f"{type(self.why).__name__}: {self.why}" if self.why is not None else "none of them is there"
        error = DoorError(
            f"no gateway gave a whole answer to {self.asked.method} {self.asked.path.partition('?')[0]} in {self.tries} tries "
            f"({said}); ask again later"
        )
        error.__cause__ = self.why
        return error


def _content(body: Any) -> tuple[Any, bool, bool]:
    """What is sent; whether it is JSON; and whether it can be sent again."""
    match body:
        case None:
            return None, False, True
        case bytes():
            return body, False, True
        case AsyncIterable():
            return body, False, False
        case _:
            return _encode(body), True, True


async def _pieces(answer: httpx.Response, request: _Request) -> AsyncGenerator[bytes, None]:
    """The bytes of an answer. Raises _BrokenError where they end too early, DoorError where its time is over."""
    pieces = answer.aiter_raw()
    while True:
        try:
            async with asyncio.timeout_at(request.due_s):
                piece = await anext(pieces, None)
        except TimeoutError as error:
            raise DoorError(f"the answer was not whole within {request.asked.timeout_s:g} s") from error
        except httpx.TransportError as error:
            raise _BrokenError(f"{type(error).__name__}: {error}") from error
        if piece is None:
            return
        yield piece


def _is_stream(answer: httpx.Response) -> bool:
    return answer.is_success and answer.headers.get("content-type", "").startswith("text/event-stream")


def _seconds(value: str | None) -> float | None:
    return float(value) if value is not None and value.isdigit() else None


def _message(body: bytes) -> str:
    """What an error says."""
    try:
        return str(msgspec.json.decode(body)["error"]["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return "without a reason"
