"""`cordee chat`: streaming, remembering, and saying what is wrong."""

import io
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cordee.cli import main
from cordee.cli.conversation import AnswerError, Conversation, first_model

KEY = "a-key"


class Model(BaseHTTPRequestHandler):
    """Answers with three pieces; what it was asked is kept. Questions named after a fault show that fault."""

    protocol_version = "HTTP/1.1"
    asked: list[dict[str, Any]]

    def do_GET(self) -> None:
        self._answer(200, {"object": "list", "data": [{"id": "the-model"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append(body)
        question = body["messages"][-1]["content"]
        if self.headers["authorization"] != f"Bearer {KEY}":
            self._answer(401, {"error": {"message": "Incorrect API key provided.", "code": "invalid_api_key"}})
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self._event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        for piece in ("Bon", "jour ", "\x1b]0;evil\x07!"):
            self._event({"choices": [{"delta": {"content": piece}}]})
        if question == "fail":
            self._event({"error": {"message": "No worker is left."}})
        elif question != "break":
            self._event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
            self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, event: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    asked: list[dict[str, Any]] = []
    handler = type("Asked", (Model,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}/v1", asked
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORDEE_ADMIN_KEY", KEY)


def test_the_answer_comes_in_pieces_and_joins_the_conversation(server: tuple[str, list[dict[str, Any]]]) -> None:
    base, asked = server
    conversation = Conversation(base, KEY, first_model(base, KEY), {"max_tokens": 5})
    assert list(conversation.ask("Hello")) == ["Bon", "jour ", "\x1b]0;evil\x07!"]
    list(conversation.ask("And now?"))
    assert asked[1]["model"] == "the-model"
    assert asked[1]["max_tokens"] == 5
    assert asked[1]["stream"] is True
    assert [one["role"] for one in asked[1]["messages"]] == ["user", "assistant", "user"]
    assert asked[1]["messages"][1]["content"].startswith("Bonjour ")


def test_an_answer_that_was_stopped_is_remembered_as_far_as_it_came(server: tuple[str, list[dict[str, Any]]]) -> None:
    conversation = Conversation(server[0], KEY, "m")
    with closing(conversation.ask("Hello")) as pieces:
        next(pieces)
    assert conversation.messages == [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Bon"}]


@pytest.mark.parametrize(("question", "said"), [("fail", "No worker is left"), ("break", "ended before it was whole")])
def test_a_broken_answer_is_an_error_and_is_not_remembered(
    server: tuple[str, list[dict[str, Any]]], question: str, said: str
) -> None:
    conversation = Conversation(server[0], KEY, "m")
    with pytest.raises(AnswerError, match=said):
        list(conversation.ask(question))
    assert conversation.messages == []


def test_one_question_prints_its_answer(
    server: tuple[str, list[dict[str, Any]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["chat", "--data", str(tmp_path), "--url", server[0], "--system", "Be brief.", "--seed", "7", "Hello"]
    assert main(words) == 0
    assert capsys.readouterr().out == "Bonjour \x1b]0;evil\x07!\n"  # no terminal: exactly what the model said
    assert server[1][0]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert server[1][0]["seed"] == 7


def test_a_terminal_is_not_steered_by_the_model(
    server: tuple[str, list[dict[str, Any]]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["chat", "--data", str(tmp_path), "--url", server[0], "Hello"]) == 0
    assert capsys.readouterr().out == "Bonjour ]0;evil!\n"


def test_the_question_may_come_from_standard_input(
    server: tuple[str, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Grüße".encode())))
    assert main(["chat", "--data", str(tmp_path), "--url", server[0], "-"]) == 0
    assert server[1][0]["messages"][-1]["content"] == "Grüße"


@pytest.mark.parametrize(
    ("url", "environment", "code", "said"),
    [
        (
            "http://127.0.0.1:1/v1",
            KEY,
            1,
            "nothing answers at http://127.0.0.1:1/v1: start the platform with `cordee up`",
        ),
        ("gopher://x", KEY, 1, "is not an address such as"),
        ("SERVER", "wrong", 1, "refused with 401: Incorrect API key provided."),
        ("SERVER", "", 2, "admin"),
    ],
)
def test_what_is_wrong_is_said(
    server: tuple[str, list[dict[str, Any]]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    environment: str,
    code: int,
    said: str,
) -> None:
    monkeypatch.setenv("CORDEE_ADMIN_KEY", environment)
    assert main(["chat", "--data", str(tmp_path), "--url", url.replace("SERVER", server[0]), "Hello"]) == code
    assert said in capsys.readouterr().err
