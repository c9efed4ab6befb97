"""A stand-in gateway: answers /readyz, and anything else with its own name and the headers it was sent, as JSON.

python standin.py NAME PORT
"""

from __future__ import annotations

import asyncio
import json
import sys

READ_MAX = 1 << 20


class Gateway:
    def __init__(self, name: str) -> None:
        self.name = name

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
                await self.skip_body(reader, headers)
                body = json.dumps({"name": self.name, "request": head[0], "headers": headers}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nserver: standin\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def skip_body(self, reader: asyncio.StreamReader, headers: dict[str, str]) -> None:
        if headers.get("transfer-encoding") == "chunked":
            while (size := int(await reader.readline(), 16)) > 0:
                await reader.readexactly(size + 2)
            await reader.readline()
        elif length := int(headers.get("content-length", 0)):
            await reader.readexactly(length)


async def main(name: str, port: int) -> None:
    server = await asyncio.start_server(Gateway(name).serve, "127.0.0.1", port, limit=READ_MAX)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
