"""A server that may open few files, for the rehearsal of what happens when they are used up.

python starved.py DESCRIPTORS CONNECTIONS_MAX

It prints its port. GET /stream sends a line ten times a second until the client leaves, GET /count how many connections are open.
"""

from __future__ import annotations

import asyncio
import resource
import sys

import uvloop

from cordee.http.exchange import Answer, Exchange
from cordee.http.request import Limits, Rejection, Request
from cordee.http.server import Server

TEXT = b"content-type: text/plain\r\n"


class Handler:
    server: Server

    def admit(self, request: Request) -> Answer | None:
        return None

    def handle(self, request: Request, exchange: Exchange) -> None:
        if request.path == b"/count":
            exchange.answer(Answer(200, TEXT, b"%d" % len(self.server.connections)))
            return
        exchange.begin(200, TEXT)
        self.line(exchange)

    def line(self, exchange: Exchange) -> None:
        if exchange.is_open:
            exchange.write(b"line\n")
            asyncio.get_running_loop().call_later(0.1, self.line, exchange)

    def rejected(self, rejection: Rejection) -> Answer:
        return Answer(rejection.status, TEXT, rejection.message.encode())


async def main(descriptors: int, connections: int) -> None:
    handler = Handler()
    handler.server = Server(handler, Limits(connections_max=connections))
    await handler.server.listen("127.0.0.1", 0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    print(handler.server.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(main(*map(int, sys.argv[1:3])))
