"""Another model answers: real gateway and workers, and a small server of another model beside them."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.rig import HEADERS, Rig, until

pytestmark = pytest.mark.e2e
CONFIG = """
[models.oracle]
fallbacks = [{ model = "other", on = ["context", "failure", "overload"] }]

[models.other]
schema = false
fallbacks = [{ model = "oracle" }]

[oracle]
context = 64

[queue]
wait_s_max = 0.5
"""


class Other(BaseHTTPRequestHandler):
    """A server with one model. `status`: what it answers calls with; `asked`: the bodies it was sent."""

    protocol_version = "HTTP/1.1"
    status: ClassVar[int] = 200
    asked: ClassVar[list[dict[str, Any]]] = []

    def do_GET(self) -> None:
        self._answer(200, {"object": "list", "data": [{"id": "other", "object": "model"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        type(self).asked.append(body)
        self._answer(
            self.status, {"id": "x", "model": body["model"], "choices": [{"index": 0, "text": "from the other"}]}
        )

    def _answer(self, status: int, answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    Other.status, Other.asked = 200, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "cordee.toml").write_text(CONFIG)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    rig = Rig(tmp_path, workers=1, gateway_flags=("--replica", url))
    try:
        until(lambda: rig.ready_replicas() == 2, "the worker and the other server are there")
        yield rig
    finally:
        rig.__exit__()
        server.shutdown()
        server.server_close()


def post(rig: Rig, body: dict[str, Any]) -> tuple[int, str | None, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", rig.ports[0], timeout=30)
    connection.request("POST", "/v1/completions", json.dumps(body), HEADERS)
    response = connection.getresponse()
    return response.status, response.getheader("x-cordee-model"), json.loads(response.read())


def test_a_prompt_too_long_for_one_model_is_answered_by_the_next(rig: Rig) -> None:
    status, model, answer = post(rig, {"model": "oracle", "prompt": "x" * 100, "max_tokens": 4})
    assert (status, model, answer["model"]) == (200, "other", "other")
    assert Other.asked[-1]["prompt"] == "x" * 100
    assert post(rig, {"model": "oracle", "prompt": "short", "max_tokens": 4})[:2] == (200, None)


def test_without_workers_another_model_answers_and_the_receipt_names_both(rig: Rig) -> None:
    rig.kill_worker(0)
    until(lambda: rig.ready_replicas() == 1, "the worker is gone")
    status, model, answer = post(rig, {"model": "oracle", "prompt": "short", "max_tokens": 4})
    assert (status, model, answer["model"]) == (200, "other", "other")


def test_a_server_that_fails_is_replaced_by_our_own_model(rig: Rig) -> None:
    Other.status = 500
    status, model, answer = post(rig, {"model": "other", "prompt": "short", "max_tokens": 4, "seed": 3})
    assert (status, model, answer["model"]) == (200, "oracle", "oracle")
    assert answer["usage"]["prompt_tokens"] == len("short")


def test_a_mistake_of_the_caller_goes_to_nobody_else(rig: Rig) -> None:
    Other.status = 400
    status, model, _ = post(rig, {"model": "other", "prompt": "short"})
    assert (status, model, len(Other.asked)) == (400, None, 1)
