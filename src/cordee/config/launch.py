"""What one process is told when it is started, besides the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class GatewayLaunch:
    """`replicas`: `http://HOST:PORT`, `unix:/PATH` or `tls://HOST:PORT`. `gateways`: how many gateways share them. `grpc`:
    HOST:PORT where it speaks gRPC too, "" for nowhere. `store`: the URL of the store that all gateways share, "" for none."""

    name: str
    server: int
    kind: str  # "web" or "mobile"
    listen: str
    replicas: tuple[str, ...]
    data: Path
    gateways: int = 1
    grpc: str = ""
    store: str = ""


def is_url(replica: str) -> bool:
    """A server reached by URL, not one of our own workers."""
    return replica.startswith(("http://", "https://"))


@dataclass(frozen=True, slots=True)
class WorkerLaunch:
    """`listen`: `unix:/PATH` or `tls://HOST:PORT`."""

    name: str
    server: int
    listen: str
    data: Path
