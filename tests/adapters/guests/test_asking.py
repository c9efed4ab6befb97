"""Questions to a guest, and what is made of answers that are not what they should be."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from cordee.adapters.guests.asking import Asker, NotWellError
from cordee.adapters.upstreams.endpoint import Endpoint

MODELS = json.dumps({"data": [{"id": "m"}]})
Answers = dict[str, tuple[int, str]]


def ask(answers: Answers, question: Callable[[Asker], Awaitable[object]], answer_s: float = 5.0) -> object:
    """What comes of a question to a server with these answers; a path without one is never answered."""

    async def run() -> object:
        async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while head := await reader.readuntil(b"\r\n\r\n"):
                for line in head.split(b"\r\n"):
                    if line.lower().startswith(b"content-length:"):
                        await reader.readexactly(int(line.split(b":")[1]))
                path = head.split(b" ")[1].decode()
                if path not in answers:
                    await asyncio.sleep(60)
                status, body = answers[path]
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())

        server = await asyncio.start_server(client, "127.0.0.1", 0)
        endpoint = Endpoint(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "key")
        try:
            return await question(Asker(endpoint, "vllm", "m", answer_s))
        finally:
            endpoint.close()
            server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    return asyncio.run(run())


def test_a_guest_that_has_its_model_and_computes_a_token_is_well():
    answers = {
        "/health": (200, ""), "/v1/models": (200, MODELS), "/v1/completions": (200, '{"choices": []}'),
        "/metrics": (200, "vllm:num_requests_running 1\n"),
    }  # fmt: skip
    ask(answers, Asker.is_up)
    ask(answers, Asker.canary)
    assert ask(answers, Asker.figures).running == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("answers", "question", "words"),
    [
        ({"/health": (503, "")}, Asker.is_up, "status 503"),
        (
            {"/health": (200, ""), "/v1/models": (200, '{"data": [{"id": "other"}]}')},
            Asker.is_up,
            "it serves other, not m",
        ),
        ({"/health": (200, ""), "/v1/models": (200, "no")}, Asker.is_up, "something else"),
        ({"/metrics": (404, "")}, Asker.figures, "status 404"),
        ({"/metrics": (200, "x 1\n")}, Asker.figures, "num_requests_running"),
        ({"/v1/completions": (500, "EngineDeadError")}, Asker.canary, "EngineDeadError"),
        ({"/v1/completions": (200, "[]")}, Asker.canary, "no JSON object"),
        ({"/v1/completions": (200, "{}")}, Asker.canary, "no choices"),
    ],
)
def test_what_it_does_instead_is_said(answers, question, words):
    with pytest.raises(NotWellError, match=words):
        ask(answers, question)


def test_a_guest_that_is_silent_is_not_waited_for_longer_than_was_said():
    with pytest.raises(NotWellError, match="no token came within"):
        ask({}, Asker.canary, answer_s=0.02)
