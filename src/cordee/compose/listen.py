"""Where a worker listens, and who may come in: its own user on a unix socket, a gateway's certificate over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cordee.adapters import link_tls, pki
from cordee.adapters.link_tls import PkiError
from cordee.config.launch import WorkerLaunch
from cordee.engine.connection import same_user

UNIX_PATH_BYTES_MAX = 107  # of sockaddr_un, less the zero at the end
BACKLOG = 128
ONLY_OURS = 0o077  # the umask under which the socket is made
CERTIFICATE_REFRESH_S = 3600.0  # certificates live for months and are renewed weeks ahead

Factory = Callable[[], asyncio.Protocol]


class Door(Protocol):
    """An address that can be listened on."""

    def admits(self, transport: asyncio.BaseTransport) -> str | None:
        """Why a peer is not let in; None: it is."""
        ...

    async def listen(self, factory: Factory) -> None:
        """Raises OSError with what to do."""
        ...

    def close(self) -> None:
        """Let nobody in any more; connections stay. Idempotent."""
        ...


def open_door(launch: WorkerLaunch) -> Door:
    """The door for `launch.listen`. Raises ValueError for an address that is none, PkiError, OSError."""
    kind, _, rest = launch.listen.partition(":")
    if kind == "unix" and rest.startswith("/"):
        return UnixDoor(Path(rest))
    host, _, port = rest.removeprefix("//").rpartition(":")
    if kind == "tls" and host and port.isascii() and port.isdigit():
        return TlsDoor(host.strip("[]"), int(port), launch.data)
    raise ValueError(f"--listen {launch.listen!r} is neither unix:/PATH nor tls://HOST:PORT")


class UnixDoor:
    """A socket that only its owner may open, and whose peers must run as the same user."""

    def __init__(self, path: Path) -> None:
        if len(os.fsencode(path)) > UNIX_PATH_BYTES_MAX:
            raise ValueError(
                f"{path} has {len(os.fsencode(path))} bytes, a socket's path at most {UNIX_PATH_BYTES_MAX}: "
                "choose a shorter one"
            )
        self._path = path
        self._server: asyncio.AbstractServer | None = None

    def admits(self, transport: asyncio.BaseTransport) -> str | None:
        return same_user(transport, os.geteuid())

    async def listen(self, factory: Factory) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._clear()
        loop = asyncio.get_running_loop()
        before = os.umask(ONLY_OURS)
        try:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            listener.bind(str(self._path))
        except OSError as error:
            raise OSError(error.errno, f"{self._path}: {error.strerror}; choose another --listen") from error
        finally:
            os.umask(before)
        self._server = await loop.create_unix_server(factory, sock=listener, backlog=BACKLOG)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()

    def _clear(self) -> None:
        """Remove what a process that is gone has left; one that is there keeps its address."""
        if not self._path.is_socket():
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self._path))
            except ConnectionRefusedError:
                self._path.unlink(missing_ok=True)
                return
        raise OSError(errno.EADDRINUSE, f"another worker listens on {self._path}: stop it or choose another --listen")


class TlsDoor:
    """Mutual TLS 1.3 with this installation's certificates; only gateways may come in."""

    def __init__(self, host: str, port: int, data: Path) -> None:
        self._host, self._port, self._data = host, port, data
        pki.ensure(data)
        self._context = link_tls.server_context(data)
        self._server: asyncio.AbstractServer | None = None
        self._timer: asyncio.TimerHandle | None = None

    def admits(self, transport: asyncio.BaseTransport) -> str | None:
        peer: link_tls.TlsObject = transport.get_extra_info("ssl_object")
        try:
            link_tls.check_peer(peer, link_tls.GATEWAY)
        except PkiError as error:
            return str(error)
        return None

    async def listen(self, factory: Factory) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(factory, self._host, self._port, ssl=self._context, backlog=BACKLOG)
        self._timer = loop.call_later(CERTIFICATE_REFRESH_S, self._refresh)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._server is not None:
            self._server.close()
            self._server = None

    def _refresh(self) -> None:
        pki.ensure(self._data)
        link_tls.reload(self._context, self._data, link_tls.WORKER)
        self._timer = asyncio.get_running_loop().call_later(CERTIFICATE_REFRESH_S, self._refresh)
