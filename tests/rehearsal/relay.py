"""What lies between a gateway and a worker and goes wrong: a process that hands on bytes until it is told to do something else.

`python -m tests.rehearsal.relay LISTEN TARGET CONTROL` listens on one unix socket, connects to another, and takes its manners from
the file CONTROL, which is read at each frame of the worker. `Relayed` is a rig with one of these before each worker.
"""

from __future__ import annotations

import asyncio
import random
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from cordee.link import frames
from tests.rig import Rig, until

MANNERS = (
    "ok",  # hands on everything
    "swallow",  # keeps connections open and lets nothing through, either way
    "garbage",  # random bytes in place of a frame
    "half",  # half a frame of tokens, then the connection ends
    "long",  # a frame that says it is 4 GiB long
    "kind",  # a frame of a kind that there is not
    "finish",  # a finish that there is not
    "token",  # a token that the vocabulary has not
    "again",  # every frame of tokens twice
    "skip",  # every third frame of tokens is lost
    "close",  # accepts, then closes
)
STEP_HEAD = 24  # bytes of load before the rows


class Relayed(Rig):
    """Each worker behind a relay; `be(number, manner)` says how that one is from now on."""

    def __init__(self, directory: Path, **more: Any) -> None:
        self.relays: list[subprocess.Popen[bytes]] = []
        super().__init__(directory, **more)

    def __enter__(self) -> Relayed:
        super().__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for relay in self.relays:
            relay.kill()
            relay.wait()
        super().__exit__()

    def be(self, number: int, manner: str) -> None:
        assert manner in MANNERS
        control = self._control(number)
        new = control.with_suffix(".new")
        new.write_text(manner)
        new.replace(control)

    def _control(self, number: int) -> Path:
        return self.directory / f"relay-{number + 1}"

    def _start_worker(self, number: int, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        name, own = f"worker-{number + 1}", self.directory / f"own{number + 1}.sock"
        if number >= len(self.relays):
            self.be(number, "ok")
            command = ["tests.rehearsal.relay", str(self._socket(number)), str(own), str(self._control(number))]
            self.relays.append(subprocess.Popen([sys.executable, "-m", *command]))
            until(self._socket(number).exists, "the relay listens")
        return self._start(
            name, "worker", "--listen", f"unix:{own}", "--name", name, *self._flags, environment=environment
        )


# -- the process


async def serve(listen: str, target: str, control: Path) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if control.read_text() == "close":
                return
            there, back = await asyncio.open_unix_connection(target)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(hand_on(reader, back, control))
                    group.create_task(tell(there, writer, control))
            finally:
                back.close()
        except* (OSError, EOFError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(client, listen)
    async with server:
        await server.serve_forever()


async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, control: Path) -> None:
    """What the gateway says."""
    while data := await reader.read(1 << 16):
        if control.read_text() != "swallow":
            writer.write(data)
            await writer.drain()
    raise EOFError


async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, control: Path) -> None:
    """What the worker says, frame by frame."""
    rng, steps = random.Random(7), 0
    while True:
        head = await reader.readexactly(5)
        length, kind = struct.unpack("<IB", head)
        frame = head + await reader.readexactly(length - 1)
        steps += kind == frames.STEP
        manner = control.read_text()
        if manner == "swallow":
            continue
        if kind == frames.STEP:
            frame = spoiled(frame, manner, steps, rng)
        writer.write(frame)
        await writer.drain()
        if manner == "half" and kind == frames.STEP:
            raise EOFError


def spoiled(frame: bytes, manner: str, steps: int, rng: random.Random) -> bytes:
    """A frame of tokens, made worse."""
    rows = bytearray(frame)
    match manner:
        case "garbage":
            return rng.randbytes(len(frame))
        case "half":
            return frame[: len(frame) // 2]
        case "long":
            return b"\xff\xff\xff\xff" + frame[4:]
        case "kind":
            return frame[:4] + b"\x63" + frame[5:]
        case "finish":
            struct.pack_into("<H", rows, 5 + STEP_HEAD + 6, 999)
            return bytes(rows)
        case "token":
            struct.pack_into("<I", rows, 5 + STEP_HEAD + 12, 0xFFFF_FFF0)
            return bytes(rows)
        case "again":
            return frame + frame
        case "skip":
            return b"" if steps % 3 == 0 else frame
        case _:
            return frame


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
