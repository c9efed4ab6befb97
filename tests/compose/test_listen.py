from __future__ import annotations

import asyncio
import socket
import ssl
import stat
from pathlib import Path
from typing import cast

import pytest
import uvloop

from cordee.adapters.link_tls import client_context
from cordee.compose.listen import TlsDoor, UnixDoor, open_door
from cordee.config.launch import WorkerLaunch
from cordee.engine.connection import same_user
from tests.ports import free_port


class Greeter(asyncio.Protocol):
    """Says what the door says of the peer."""

    def __init__(self, door: UnixDoor | TlsDoor) -> None:
        self.door = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        stream.write((self.door.admits(transport) or "welcome").encode())
        stream.close()


def launch(listen: str, data: Path) -> WorkerLaunch:
    return WorkerLaunch("w", 1, listen, data)


@pytest.mark.parametrize("listen", ["unix:relative", "tls://host", "tls://:", "http://x:1", "tls://host:http", ""])
def test_an_address_that_is_none_is_refused(tmp_path: Path, listen: str):
    with pytest.raises(ValueError, match=r"neither unix:/PATH nor tls://HOST:PORT"):
        open_door(launch(listen, tmp_path))


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"at most 107: choose a shorter one"):
        UnixDoor(tmp_path / ("x" * 120))


def test_a_unix_socket_is_its_owners_alone_and_goes_with_its_door(tmp_path: Path):
    async def scenario() -> bytes:
        door = UnixDoor(tmp_path / "run" / "w.sock")
        await door.listen(lambda: Greeter(door))
        path = tmp_path / "run" / "w.sock"
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        reader, writer = await asyncio.open_unix_connection(str(path))
        said = await reader.read()
        writer.close()
        door.close()
        door.close()
        assert not path.exists()
        return said

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(scenario()) == b"welcome"


def test_a_peer_of_another_user_is_not_admitted(tmp_path: Path):
    one, two = socket.socketpair(socket.AF_UNIX)

    class Transport(asyncio.BaseTransport):
        def get_extra_info(self, name: str, default: object = None) -> object:
            return one

    found = same_user(Transport(), 4_000_000)
    assert found is not None
    assert "must be 4000000" in found
    one.close()
    two.close()


def test_a_socket_left_behind_is_replaced_and_one_in_use_is_not(tmp_path: Path):
    async def scenario() -> None:
        path = tmp_path / "w.sock"
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        door, second = UnixDoor(path), UnixDoor(path)
        await door.listen(lambda: Greeter(door))
        with pytest.raises(OSError, match="another worker listens on"):
            await second.listen(lambda: Greeter(second))
        second.close()
        assert path.exists()
        door.close()

    asyncio.run(scenario())


def test_over_tls_only_who_has_a_gateways_certificate_is_admitted(tmp_path: Path):
    async def scenario() -> list[bytes]:
        port = free_port()
        door = TlsDoor("127.0.0.1", port, tmp_path)
        await door.listen(lambda: Greeter(door))
        nobody = ssl.create_default_context()
        nobody.check_hostname = False
        nobody.verify_mode = ssl.CERT_NONE
        said = []
        for context in (client_context(tmp_path), nobody):
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
                said.append(await reader.read())
                writer.close()
            except OSError:  # refused in the handshake
                said.append(b"refused")
        door.close()
        return said

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        welcomed, other = runner.run(scenario())
    assert welcomed == b"welcome"
    assert other in (b"", b"refused")  # in TLS 1.3 a client may learn of it only when it reads
