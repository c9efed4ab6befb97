"""A broker behind TLS: what takes the TLS off lies before it, as before many a broker that is not asked to do it itself."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator
from pathlib import Path

from cordee.adapters import pki
from cordee.adapters.link_tls import GATEWAY, node_file, trust_file

HOST = "127.0.0.1"
PIECE_BYTES = 65_536


class Papers:
    """Certificates: of the broker for HOST, of one who may come, of an authority of their own."""

    def __init__(self, directory: Path) -> None:
        pki.ensure(directory)
        self.broker = pki.ensure_edge(directory, [HOST])
        self.ca = trust_file(directory)
        self.ours = node_file(directory, GATEWAY)

    def server(self, *, asks: bool) -> ssl.SSLContext:
        """`asks`: for a certificate of whoever comes."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.ca))
        context.load_cert_chain(self.broker)
        context.verify_mode = ssl.CERT_REQUIRED if asks else ssl.CERT_NONE
        return context


@contextlib.asynccontextmanager
async def behind_tls(port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
    """The port of what stands before `port`. A Kafka tells its clients where it is: it is made to tell this port instead."""
    tasks: set[asyncio.Task[None]] = set()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            there = await asyncio.open_connection(HOST, port)
            both = [_hand_on(reader, there[1], {}), _hand_on(there[0], writer, {_at(port): _at(here)})]
            await asyncio.gather(*both)
        writer.close()
        tasks.discard(task)

    server = await asyncio.start_server(take, HOST, 0, ssl=context)
    here: int = server.sockets[0].getsockname()[1]
    try:
        yield here
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _hand_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter, instead: dict[bytes, bytes]) -> None:
    try:
        while piece := await source.read(PIECE_BYTES):
            for said, other in instead.items():
                piece = piece.replace(said, other)
            sink.write(piece)
            await sink.drain()
    finally:
        sink.close()


def _at(port: int) -> bytes:
    """An address as Kafka's protocol says it: the same number of bytes, whatever the port."""
    return HOST.encode() + struct.pack(">i", port)
