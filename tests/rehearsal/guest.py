"""A guest that plays what vLLM documents: `guest.py serve MODEL --port P --served-model-name NAME …`, with its key in VLLM_API_KEY.

Token i of every answer is the id 100 + i and the text "w<i> ", so that a test knows each byte, however often it breaks off. Only the
standard library, and by its path: a guest is started without a working directory to import from. `command` makes a program of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

PROMPT = [1, 2, 3]
FIRST_ID = 100
TOKEN_S = 0.02
COUNT = 40


def command(directory: Path) -> Path:
    """A program that can be named as a guest's `command`."""
    program = directory / "vllm"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).absolute()}" "$@"\n')
    program.chmod(0o755)
    return program


def text(count: int = COUNT) -> str:
    return "".join(f"w{number} " for number in range(count))


class Guest:
    def __init__(self, model: str) -> None:
        self.model = model
        self.running = self.prompt_tokens = self.tokens = 0
        self.is_stuck = os.path.exists(os.environ.get("HF_STUCK", ""))

    async def serve(self, port: int) -> None:
        server = await asyncio.start_server(self._client, "127.0.0.1", port)
        async with server:
            await server.serve_forever()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines if one)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        path = line.split(" ")[1]
        if path.startswith("/v1") and headers.get("authorization") != f"Bearer {os.environ['VLLM_API_KEY']}":
            return _answer(writer, 401, {"error": "Unauthorized"})
        if path == "/v1/models":
            return _answer(writer, 200, {"object": "list", "data": [{"id": self.model, "object": "model"}]})
        if path == "/metrics":
            return _answer(writer, 200, self._metrics())
        if path in ("/v1/chat/completions", "/v1/completions"):
            return await self._generate(writer, json.loads(body), is_chat=path.startswith("/v1/chat"))
        return _answer(writer, 200 if path == "/health" else 404, {})

    def _metrics(self) -> str:
        labels = f'{{engine="0",model_name="{self.model}"}}'
        info = 'vllm:cache_config_info{block_size="16",engine="0",kv_cache_size_tokens="4096",num_gpu_blocks="256"} 1.0'
        figures = {
            "num_requests_running": self.running, "num_requests_waiting": 0, "kv_cache_usage_perc": self.running / 100,
            "prompt_tokens_total": self.prompt_tokens, "generation_tokens_total": self.tokens,
        }  # fmt: skip
        return "\n".join([f"vllm:{name}{labels} {value:.6g}" for name, value in figures.items()] + [info, ""])

    async def _generate(self, writer: asyncio.StreamWriter, asked: dict[str, Any], *, is_chat: bool) -> bool:
        if self.is_stuck or os.path.exists(os.environ.get("HF_STUCK", "")):
            await asyncio.sleep(3600)
        prompt = asked.get("prompt")
        said = len(prompt) - len(PROMPT) if isinstance(prompt, list) else 0
        limit = asked.get("max_tokens") or COUNT - said
        self.running += 1
        self.prompt_tokens += len(PROMPT)
        try:
            numbers = range(said, said + limit)
            if not asked.get("stream"):
                self.tokens += limit
                choice = {"index": 0, "text": "".join(f"w{number} " for number in numbers), "finish_reason": "length"}
                if is_chat:
                    choice["message"] = {"role": "assistant", "content": choice.pop("text")}
                return _answer(
                    writer, 200, {"id": "x", "object": "o", "created": 1, "model": self.model, "choices": [choice]}
                )
            return await self._stream(writer, asked, numbers, is_chat=is_chat)
        finally:
            self.running -= 1

    async def _stream(
        self, writer: asyncio.StreamWriter, asked: dict[str, Any], numbers: range, *, is_chat: bool
    ) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        kind = "chat.completion.chunk" if is_chat else "text_completion"
        envelope = {"id": f"cmpl-{os.getpid()}", "object": kind, "created": 1, "model": self.model}
        ids = asked.get("return_token_ids")
        if is_chat:
            more = {"prompt_token_ids": PROMPT} if ids else {}
            _chunk(
                writer,
                {
                    **envelope,
                    "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}],
                    **more,
                },
            )
        for number in numbers:
            word = f"w{number} "
            choice: dict[str, Any] = {
                "index": 0,
                **({"delta": {"content": word}} if is_chat else {"text": word}),
                "finish_reason": None,
            }
            if ids:
                choice["token_ids"] = [FIRST_ID + number]
            if number == numbers[-1]:
                choice["finish_reason"] = "length"
            _chunk(writer, {**envelope, "choices": [choice]})
            self.tokens += 1
            await writer.drain()
            await asyncio.sleep(TOKEN_S)
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        return True


def _chunk(writer: asyncio.StreamWriter, event: dict[str, Any]) -> None:
    data = b"data: %s\n\n" % json.dumps(event).encode()
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))


def _answer(writer: asyncio.StreamWriter, status: int, body: Any) -> bool:
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    writer.write(
        f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data
    )
    return True


def main(argv: list[str]) -> int:
    if argv[1].endswith("broken"):
        print("ValueError: this model is broken", file=sys.stderr)
        return 1
    options = dict(zip(argv[2::2], argv[3::2], strict=False))
    asyncio.run(Guest(options["--served-model-name"]).serve(int(options["--port"])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
