"""The name of a server that cannot be looked up, is looked up slowly, or means another address from now on: row 47 of docs/faults.md.

The gateway has a mount namespace of its own, in which /etc/hosts and /etc/resolv.conf are files of the test, so that it asks the
system's real resolver, and the test decides what that knows.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from cordee.http.pool import CONNECT_S
from tests.rehearsal.provider import KEY, Provider
from tests.rehearsal.record import in_ms, record
from tests.rehearsal.test_servers import Heard, ask
from tests.rig import Rig, until

pytestmark = pytest.mark.rehearsal

NAME = "upstream.test"  # RFC 2606: never a real one
NAMESERVER = ("127.0.0.99", 53)
CALLS = 20  # at once, each on a connection of its own
OTHER_HOST = "127.0.0.2"
MOUNTED = 'mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf && shift 2 && exec "$@"'


class Renamed(Rig):
    """A gateway for which names are what `hosts` says, and else what a nameserver on the loopback says."""

    def __init__(self, directory: Path, **more: Any) -> None:
        self._hosts = directory / "hosts"
        self._resolv = directory / "resolv.conf"
        self._resolv.write_text(f"nameserver {NAMESERVER[0]}\noptions timeout:10 attempts:3\n")
        self.name_is("127.0.0.1")
        super().__init__(directory, **more)

    def name_is(self, address: str) -> None:
        """ "": the name is in no file."""
        self._hosts.write_text("127.0.0.1 localhost\n" + (f"{address} {NAME}\n" if address else ""))

    def _start(self, name: str, *command: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        own = ["unshare", "-rm", "sh", "-c", MOUNTED, "sh", str(self._hosts), str(self._resolv)]
        cordee = [sys.executable, "-m", "cordee.cli", *command, "--data", str(self.directory), "--model", self.model]
        with (self.directory / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [*own, *cordee], env={**self._environment, **(environment or {})}, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, cwd=self.directory,
            )  # fmt: skip


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Renamed, Provider]]:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this host allows no mount namespaces: nothing can be said to the resolver here")
    directory = tmp_path_factory.mktemp("names")
    with Provider() as server:
        (directory / "cordee.toml").write_text(
            f'[[replica]]\nurl = "http://{NAME}:{server.port}/v1"\nname = "s"\nkey_env = "PEER_KEY"\n'
            f'models = {{m = "qwen-plus"}}\n'
        )
        rig = Renamed(directory, workers=0, environment={"PEER_KEY": KEY})
        with rig:
            until(lambda: rig.ready_replicas() == 1, "the server is found")
            yield rig, server


@contextmanager
def silent_nameserver() -> Iterator[None]:
    """Who asks it waits."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as nameserver:
        try:
            nameserver.bind(NAMESERVER)
        except PermissionError:
            pytest.skip("this user may not listen on port 53: no nameserver can be slow here")
        yield


def crowd(rig: Rig) -> list[Heard]:
    async def all_at_once() -> list[Heard]:
        return await asyncio.gather(*(ask(rig.ports[0]) for _ in range(CALLS)))

    return asyncio.run(all_at_once())


def noted(fault: str, asked: str, heard: list[Heard]) -> None:
    failed = [one.status for one in heard if not one.is_right]
    record(47, fault, asked, {"calls": len(heard), "failed": len(failed), "ms": in_ms([one.took_s for one in heard])})
    assert failed == []


def test_a_known_server_is_reached_while_its_name_cannot_be_looked_up(named: tuple[Renamed, Provider]) -> None:
    rig, server = named
    server.be(first_s=0.1)
    assert all(one.is_right for one in crowd(rig))
    rig.name_is("")
    try:
        server.start_again()  # every connection is to be made anew
        server.be(first_s=0.1)
        noted("the name of a server cannot be looked up", "no effect on known servers", crowd(rig) + crowd(rig))
        with silent_nameserver():
            server.start_again()
            server.be(first_s=0.1)
            heard = crowd(rig) + crowd(rig)
            noted("the nameserver does not answer", "no effect on known servers", heard)
            assert max(one.took_s for one in heard) < CONNECT_S
    finally:
        rig.name_is("127.0.0.1")


def test_a_server_that_has_moved_is_followed_without_an_error(named: tuple[Renamed, Provider]) -> None:
    rig, server = named
    assert all(one.is_right for one in crowd(rig))
    with Provider(OTHER_HOST, server.port) as moved:
        server.kill()
        rig.name_is(OTHER_HOST)
        try:
            noted("a server moves to another address", "the next call goes there", crowd(rig) + crowd(rig))
            assert len(moved.seen()) >= 2 * CALLS
        finally:
            rig.name_is("127.0.0.1")
            server.start_again()
