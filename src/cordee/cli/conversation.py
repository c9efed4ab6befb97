"""A conversation with an OpenAI-compatible server over the standard library: ask, and read the answer as it comes."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

CONNECT_S = 10.0
SILENCE_S = 150.0  # between two pieces of an answer; beyond the gateway's own limits
ERROR_BYTES_MAX = 64 * 1024
LINE_BYTES_MAX = 1024 * 1024  # of one server-sent event
EVENT_PREFIX = b"data:"
DONE = b"[DONE]"


class AnswerError(Exception):
    """No answer, or not a whole one; the message says what to do."""


@dataclass(slots=True)
class Conversation:
    """`base` is an address such as http://127.0.0.1:8000/v1; `messages` in OpenAI's form, the newest last. `trusted` is the
    certificate file of an own platform's https address; "" leaves the trust to the system."""

    base: str
    key: str
    model: str
    options: dict[str, Any] = field(default_factory=dict)
    messages: list[dict[str, str]] = field(default_factory=list)
    trusted: str = ""

    def ask(self, question: str) -> Generator[str, None, None]:
        """The answer, piece by piece. It joins the conversation when it is whole, or as far as it came when the reader stops;
        after an error neither question nor answer do. Raises AnswerError."""
        asked = {"role": "user", "content": question}
        body = {**self.options, "model": self.model, "messages": [*self.messages, asked], "stream": True}
        answer: list[str] = []
        try:
            for piece in _stream(self.base, self.key, body, self.trusted):
                answer.append(piece)
                yield piece
        except (GeneratorExit, KeyboardInterrupt):
            self._remember(asked, answer)
            raise
        self._remember(asked, answer)

    def _remember(self, asked: dict[str, str], answer: list[str]) -> None:
        self.messages += [asked, {"role": "assistant", "content": "".join(answer)}]


def first_model(base: str, key: str, trusted: str = "") -> str:
    """The first model that is served at `base`. Raises AnswerError."""
    with closing(_connect(base, trusted)) as connection:
        response = _send(connection, base, "GET", "/models", key, None)
        try:
            return str(json.loads(response.read(ERROR_BYTES_MAX))["data"][0]["id"])
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
            raise AnswerError(f"{base}/models names no model; is this an OpenAI-compatible server?") from error


def _stream(base: str, key: str, body: dict[str, Any], trusted: str) -> Iterator[str]:
    with closing(_connect(base, trusted)) as connection:
        response = _send(connection, base, "POST", "/chat/completions", key, json.dumps(body).encode())
        try:
            for event in _events(response):
                if event == DONE:
                    return
                yield from _pieces(json.loads(event))
        except (OSError, http.client.HTTPException, ValueError, TypeError, AttributeError) as error:
            raise AnswerError(f"the answer broke off: {error}; ask again") from error
        raise AnswerError("the answer ended before it was whole; ask again")


def _events(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while line := response.readline(LINE_BYTES_MAX):
        if line.startswith(EVENT_PREFIX):
            yield line.removeprefix(EVENT_PREFIX).strip()


def _pieces(event: dict[str, Any]) -> Iterator[str]:
    if error := event.get("error"):
        raise AnswerError(str(error.get("message", error)))
    for choice in event.get("choices", ()):
        if piece := (choice.get("delta") or {}).get("content"):
            yield str(piece)


def _connect(base: str, trusted: str) -> http.client.HTTPConnection:
    url = urlsplit(base)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise AnswerError(f"{base!r} is not an address such as http://127.0.0.1:8000/v1")
    if url.scheme == "http":
        return http.client.HTTPConnection(url.hostname, url.port, timeout=CONNECT_S)
    return http.client.HTTPSConnection(url.hostname, url.port, timeout=CONNECT_S, context=trusting(trusted))


def trusting(trusted: str) -> ssl.SSLContext | None:
    """Our own platform is known by its certificate, not by a name: it is reached by whatever address it listens on."""
    if not trusted:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= (
        ssl.VERIFY_X509_PARTIAL_CHAIN
    )  # the certificate itself may be what is trusted, not its issuer
    try:
        context.load_verify_locations(trusted)
    except (OSError, ssl.SSLError) as error:
        raise AnswerError(f"{trusted}: the platform's certificate cannot be read: {error}") from error
    return context


def _send(
    connection: http.client.HTTPConnection, base: str, method: str, path: str, key: str, body: bytes | None
) -> http.client.HTTPResponse:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", "Accept": "text/event-stream"}
    try:
        connection.connect()
        connection.sock.settimeout(SILENCE_S)
        connection.request(method, urlsplit(base).path.rstrip("/") + path, body, headers)
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise AnswerError(_refusal(response))
    except ConnectionRefusedError as error:
        raise AnswerError(
            f"nothing answers at {base}: start the platform with `cordee up`, or name another --url"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise AnswerError(f"{base} cannot be reached: {error or type(error).__name__}") from error
    return response


def _refusal(response: http.client.HTTPResponse) -> str:
    said = response.read(ERROR_BYTES_MAX)
    try:
        message = str(json.loads(said)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        message = response.reason
    return f"refused with {response.status}: {message}"
