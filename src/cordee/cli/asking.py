"""One question to a platform's services over the standard library, and its answer."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from cordee.cli.conversation import AnswerError, trusting

ANSWER_S = 30.0
ANSWER_BYTES_MAX = 1024 * 1024


class AskError(Exception):
    """No usable answer came. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Reply:
    """`body`: the JSON object that came, {} for anything else."""

    status: int
    body: dict[str, Any]

    def expect(self, otherwise: str) -> dict[str, Any]:
        """The body of a success. Raises AskError."""
        if self.status == http.client.OK:
            return self.body
        error = self.body.get("error")
        said = error.get("message") if isinstance(error, dict) else self.body.get("error_description", error)
        raise AskError(f"{otherwise}: {said or f'status {self.status}'}")


def ask(
    base: str, method: str, path: str, trusted: str = "", *, form: dict[str, str] | None = None, token: str = ""
) -> Reply:
    """`base`: such as https://models.example; `trusted`: a certificate file, "" for the system's trust. Raises AskError."""
    url = urlsplit(base)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise AskError(f"{base!r} is not an address such as http://127.0.0.1:8000")
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    content = None
    if form is not None:
        content, headers["Content-Type"] = urlencode(form), "application/x-www-form-urlencoded"
    try:
        connection = (
            http.client.HTTPConnection(url.hostname, url.port, timeout=ANSWER_S)
            if url.scheme == "http"
            else http.client.HTTPSConnection(url.hostname, url.port, timeout=ANSWER_S, context=trusting(trusted))
        )
        with closing(connection):
            connection.request(method, url.path.rstrip("/") + path, content, headers)
            answer = connection.getresponse()
            said = answer.read(ANSWER_BYTES_MAX)
    except AnswerError as error:
        raise AskError(str(error)) from error
    except (OSError, http.client.HTTPException) as error:
        raise AskError(f"{base} cannot be reached: {error or type(error).__name__}") from error
    try:
        body = json.loads(said)
    except ValueError:
        body = {}
    return Reply(answer.status, body if isinstance(body, dict) else {})
