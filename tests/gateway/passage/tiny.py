"""A small service behind a gateway, in a process of its own: it takes and gives bytes, says who asked, and notes who left.

python -m tests.gateway.passage.tiny SOCKET NOTES
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

PIECE = b"\x5a" * 65_536
EVENTS = 5


def create(notes: Path) -> FastAPI:
    app = FastAPI()

    def note(line: str) -> None:
        with notes.open("a") as stream:
            stream.write(line + "\n")

    @app.get("/healthz")
    async def health() -> Response:
        return Response(b"ok")

    @app.post("/v1/files")
    async def take(request: Request) -> Response:
        size, told = 0, hashlib.sha256()
        async for piece in request.stream():
            size += len(piece)
            told.update(piece)
        return JSONResponse(
            {"size": size, "sha256": told.hexdigest(), "pid": os.getpid(), "headers": dict(request.headers)}
        )

    @app.head("/v1/files/big")
    @app.get("/v1/files/big")
    async def give(mib: int) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(mib * 16):
                yield PIECE

        return StreamingResponse(pieces(), headers={"content-length": str(mib << 20), "etag": '"x"'})

    @app.get("/v1/files/range")
    async def part(request: Request) -> Response:
        return Response(b"llo", 206, {"content-range": "bytes 2-4/5", "x-range": request.headers.get("range", "")})

    @app.get("/v1/files/events")
    async def events() -> Response:
        """Each event comes only after somebody has said `POST /v1/files/next`: one that is gathered is never followed."""

        async def pieces() -> AsyncIterator[bytes]:
            for number in range(EVENTS):
                yield b"data: %d\n\n" % number
                await app.state.next.acquire()

        return StreamingResponse(pieces(), media_type="text/event-stream")

    @app.post("/v1/files/next")
    async def following() -> Response:
        app.state.next.release()
        return Response(status_code=204)

    @app.get("/v1/files/wait")
    @app.post("/v1/files/wait")
    async def wait(request: Request) -> Response:
        note(f"began {os.getpid()}")
        while not await request.is_disconnected():
            await asyncio.sleep(0.01)
        note("left")
        return Response(b"late")

    @app.get("/v1/files/who")
    @app.get("/v1/auth/who")
    async def who(request: Request) -> Response:
        return JSONResponse({"pid": os.getpid(), "headers": dict(request.headers)})

    app.state.next = asyncio.Semaphore(0)
    return app


if __name__ == "__main__":
    uvicorn.run(create(Path(sys.argv[2])), uds=sys.argv[1], log_level="warning", http="httptools", loop="uvloop")
