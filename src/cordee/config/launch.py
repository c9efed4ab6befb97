"""What one process is told when it is started, besides the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class GatewayLaunch:
    """`replicas`: `http://HOST:PORT`, `unix:/PATH` or `tls://HOST:PORT`. `gateways`: how many gateways share them."""

    name: str
    server: int
    kind: str  # "web" or "mobile"
    listen: str
    replicas: tuple[str, ...]
    data: Path
    gateways: int = 1


@dataclass(frozen=True, slots=True)
class WorkerLaunch:
    """`listen`: `unix:/PATH` or `tls://HOST:PORT`."""

    name: str
    server: int
    listen: str
    data: Path
