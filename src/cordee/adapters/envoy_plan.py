"""Everything the edge's configuration depends on, and the words that all its parts are written with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cordee.adapters.envoy_replies import Tree

__all__ = ["MOBILE", "TYPE", "WEB", "Address", "EdgePlan", "Tree", "seconds", "socket_address", "typed"]

WEB, MOBILE = "web", "mobile"
TYPE = "type.googleapis.com/envoy."


@dataclass(frozen=True, slots=True)
class Address:
    """A resolved address: `host` is an IP address, as Envoy wants it."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class EdgePlan:
    """Seconds, bytes; `connections_max` over both addresses. `secret` is the file that holds certificate and key (see
    `envoy_tls`); None: no TLS, and so no HTTP/3. `grpc_gateways`: the mobile gateways' ports for gRPC."""

    web: Address
    mobile: Address
    web_gateways: tuple[Address, ...]
    mobile_gateways: tuple[Address, ...]
    admin: Path
    health_interval_s: float
    connections_max: int
    header_bytes_max: int
    header_timeout_s: float
    body_timeout_s: float
    idle_timeout_s: float
    call_s_max: float
    grpc_gateways: tuple[Address, ...] = ()
    secret: Path | None = None
    http3: bool = True
    compression: bool = True

    @property
    def speaks_http3(self) -> bool:
        return self.http3 and self.secret is not None


def typed(name: str, kind: str, **settings: object) -> Tree:
    """A named extension with its settings."""
    return {"name": name, "typed_config": {"@type": TYPE + kind, **settings}}


def socket_address(address: Address, protocol: str = "TCP") -> Tree:
    return {"socket_address": {"protocol": protocol, "address": address.host, "port_value": address.port}}


def seconds(value: float) -> str:
    return f"{value:.3f}s"
