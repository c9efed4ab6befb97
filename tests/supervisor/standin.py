"""A stand-in for a gateway or a worker: reports, and dies or lingers as it is told.

python standin.py NAME [quick-death | usage-error | deaf | follows | lacks | never | http:PORT]
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from cordee.adapters.reports import Reporter


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    writer.close()


async def main(name: str, how: str) -> int:
    if how == "quick-death":
        print("something is broken here", flush=True)
        return 1
    if how == "usage-error":
        print("there is no such model", flush=True)
        return 2
    ended = asyncio.Event()
    wanted = signal.SIGUSR1 if how == "deaf" else signal.SIGTERM
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    asyncio.get_running_loop().add_signal_handler(wanted, ended.set)
    if how.startswith("http:"):
        await asyncio.start_server(serve, "127.0.0.1", int(how.removeprefix("http:")))
    revision = {"revision": "one"} if how == "follows" else {}
    if how == "follows":
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: revision.update(revision="two"))
    missing = {"chats": "its database is away"} if how == "lacks" else {}
    if how == "lacks":
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, missing.clear)
    state = "starting" if how == "never" else "ready"
    reporter = Reporter(
        os.environ["CORDEE_CONTROL"],
        lambda: {
            "name": name, "pid": os.getpid(), "state": state, "load": {"open": 1}, "model": "m", "missing": missing, **revision
        },
    )  # fmt: skip
    reporter.start()
    await ended.wait()
    reporter.stop()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:3])))
