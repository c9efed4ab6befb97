"""What one process is told when it is started, besides the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class GatewayLaunch:
    """`replicas`: `http://HOST:PORT`, `unix:/PATH`, `tls://HOST:PORT` or `guest:/PATH`. `gateways`: how many gateways share them. `grpc`:
    HOST:PORT where it speaks gRPC too, "" for nowhere. `store`: the URL of the store that all gateways share, "" for none. `services`:
    `unix:/PATH` of each services process, that of the own server first."""

    name: str
    server: int
    kind: str  # "web" or "mobile"
    listen: str
    replicas: tuple[str, ...]
    data: Path
    gateways: int = 1
    grpc: str = ""
    store: str = ""
    services: tuple[str, ...] = ()


GUEST = "guest:"  # and the path of the socket at which a guest's minder says how it is


def is_link(replica: str) -> bool:
    """One of our own workers."""
    return not is_url(replica) and not replica.startswith(GUEST)


def is_url(replica: str) -> bool:
    """A server reached by URL, not one of our own workers."""
    return replica.startswith(("http://", "https://"))


@dataclass(frozen=True, slots=True)
class ServicesLaunch:
    """`listen`: `unix:/PATH`. `gateways`: HOST:PORT of each gateway that the services ask, those of the own server first."""

    name: str
    server: int
    listen: str
    gateways: tuple[str, ...]
    data: Path


@dataclass(frozen=True, slots=True)
class WorkerLaunch:
    """`listen`: `unix:/PATH` or `tls://HOST:PORT`. `serves`: the name of the `[[serve]]` that it is a worker of, "" for the first
    model's."""

    name: str
    server: int
    listen: str
    data: Path
    serves: str = ""
