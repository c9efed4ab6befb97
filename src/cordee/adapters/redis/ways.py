"""Which servers the shared store is, by its URL: one, one that sentinels watch over, or a cluster; and one exchange with them.

| URL | what |
|---|---|
| `redis://HOST:PORT/DB`, `rediss://…`, `unix:/PATH` | one server |
| `redis+sentinel://HOST:PORT,HOST:PORT/NAME`, `rediss+sentinel://…` | the primary of NAME, as the sentinels at these addresses say |
| `redis+cluster://HOST:PORT,HOST:PORT`, `rediss+cluster://…` | a cluster, of which these are some nodes |

`USER:PASSWORD@` before the addresses, and `?ssl_ca_certs=PATH` behind, as redis-py has them. Whoever asks bounds the time of an exchange,
and decides what follows when it failed: nothing is tried a second time here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ClusterDownError, ConnectionError, MovedError, TimeoutError

UNIX = "unix:"
SENTINEL, CLUSTER = "+sentinel", "+cluster"
PORT, SENTINEL_PORT = 6379, 26379  # where none is said
SENTINEL_SHARE = 0.25  # of an exchange's time, for a sentinel to answer; then the next one is asked
TLS_SETTINGS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
Argument = bytes | str | int | float


class Way(Protocol):
    """To the servers."""

    async def exchange(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """What is replied to each; an exception where it was refused. Raises whatever the client does when nothing was replied."""
        ...

    async def close(self) -> None: ...


def way(url: str, connections: int, timeout_s: float) -> Way:
    """Connects at the first exchange. Raises ValueError for a URL that is none."""
    common: dict[str, Any] = {
        "max_connections": connections,
        "socket_timeout": None,  # the whole exchange is bounded, and by somebody who knows when this process was late
        "socket_connect_timeout": None,
        "retry": Retry(NoBackoff(), 0),  # whoever asks decides what follows
        "protocol": 2,  # understood by every server there is
        "driver_info": None,  # nothing is told when a connection is made: one exchange less before the first
    }
    if url.startswith(UNIX):
        path = "/" + url[len(UNIX) :].lstrip("/")
        unix = BlockingConnectionPool(connection_class=UnixDomainSocketConnection, path=path, timeout=None, **common)
        return OneWay(Redis(connection_pool=unix))
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"a Redis URL has one of the schemes {', '.join(SCHEMES)}, {UNIX.rstrip(':')}")
    if parts.scheme.endswith(SENTINEL):
        return OneWay(_watched(parts, common, timeout_s))
    if parts.scheme.endswith(CLUSTER):
        return ClusterWay(parts, common)
    return OneWay(Redis(connection_pool=BlockingConnectionPool.from_url(url, timeout=None, **common)))


class OneWay:
    """To one server, whichever it is now."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def exchange(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies

    async def close(self) -> None:
        await self._client.aclose()


class ClusterWay:
    """To each command's node. What has changed in the cluster is learnt when a node does not answer or sends elsewhere."""

    def __init__(self, parts: SplitResult, common: dict[str, Any]) -> None:
        nodes = [ClusterNode(host, port) for host, port in _addresses(parts, PORT)]
        settings = {name: value for name, value in common.items() if name != "driver_info"}
        self._client = RedisCluster(startup_nodes=nodes, **settings, **_login(parts))
        self._is_stale = False

    async def exchange(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        if self._is_stale:
            self._is_stale = False
            await self._client.aclose()  # the next exchange asks anew where everything is
        try:
            pipeline = self._client.pipeline(transaction=False)
            for name, *arguments in commands:
                # The client finds a command's keys by its name, and knows names as text only.
                pipeline.execute_command(name.decode() if isinstance(name, bytes) else name, *arguments)
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
        except BaseException:  # being given up included
            self._is_stale = True
            raise
        lost = (ConnectionError, TimeoutError, ClusterDownError, MovedError, OSError)
        self._is_stale = any(isinstance(reply, lost) for reply in replies)
        return replies

    async def close(self) -> None:
        await self._client.aclose()


def _watched(parts: SplitResult, common: dict[str, Any], timeout_s: float) -> Redis:
    name = parts.path.strip("/")
    if not name or "/" in name:
        raise ValueError("the store's URL must end with the name that sentinels know the store by: …/NAME")
    login = _login(parts)
    wait_s = timeout_s * SENTINEL_SHARE
    asking = {"socket_timeout": wait_s, "socket_connect_timeout": wait_s, "retry": Retry(NoBackoff(), 0)}
    tls = {setting: value for setting, value in login.items() if setting.startswith("ssl")}
    sentinels: Any = Sentinel(  # type: ignore[no-untyped-call]  # its signature has no types
        _addresses(parts, SENTINEL_PORT), sentinel_kwargs={**asking, **tls}
    )
    primary: Redis = sentinels.master_for(name, **common, **login)
    return primary


def _addresses(parts: SplitResult, port: int) -> list[tuple[str, int]]:
    """Raises ValueError."""
    found = []
    for address in parts.netloc.rpartition("@")[2].split(","):
        one = urlsplit(f"//{address}")
        if not one.hostname:
            raise ValueError(f"the store's URL names no host in {address!r}")
        found.append((one.hostname, one.port or port))
    return found


def _login(parts: SplitResult) -> dict[str, Any]:
    """Raises ValueError."""
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    found: dict[str, Any] = {"username": unquote(user) or None, "password": unquote(password) or None}
    asked = dict(parse_qsl(parts.query))
    unknown = asked.keys() - TLS_SETTINGS
    if unknown:
        raise ValueError(f"the store's URL may not set {', '.join(sorted(unknown))}")
    if parts.scheme.startswith("rediss"):
        found |= {"ssl": True, **asked}
    return found
