"""The edge: what Envoy is told. Two public addresses, each for its own kind of gateway, or the other when none is left.

Decided here, each for a reason:

- A request is tried again only where it cannot have run: no connection, a refused stream, a reset before it was sent.
- A gateway is left out at once when it says so (`/readyz` is not 200), after two missed checks when it says nothing, and for a
  second when a connection to it fails. The other kind takes over only when *all* of the own kind are out.
- If every gateway of both kinds looks dead, requests are sent all the same (panic below 1 %): a machine that is too busy to
  answer health checks must not be turned into an outage, and a gateway that really is dead refuses the connection.
- Limits and header rules come from the gateways' own configuration, so that both refuse the same things; what Envoy itself
  refuses has OpenAI's error shape.
- Nothing in a request can change the rules: clients' `x-envoy-*` headers are dropped.

The result is one self-contained document, written to a file and given to `envoy -c`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cordee.adapters.envoy_replies import Tree, local_replies

WEB, MOBILE = "web", "mobile"
READY_PATH = "/readyz"
HEALTH_HOST = "edge.invalid"  # Host header of the checks; RFC 2606: never a real one

UNHEALTHY_AFTER = 2  # missed checks; one is a busy processor
HEALTHY_AFTER = 1
HEALTH_TIMEOUT_S = 0.4  # two of these and two intervals: a frozen gateway has lost its traffic within about a second
EJECTION_S = 1.0  # after a refused connection; the active check keeps it out if it is really gone
CONNECT_TIMEOUT_S = 0.5  # a gateway is on this host or in its network
OVERPROVISIONING = 1000  # ‰ to % by Envoy's reckoning: one healthy gateway in ten carries all of its kind's traffic
PANIC_PERCENT = 1.0
RETRIES_MAX = 10
LISTENER_SHARE = 0.75  # of all connections, so that one kind of client cannot take the last one from the other
BUFFER_BYTES = 64 * 1024  # per connection: a slow reader holds no more than this here
REPLAY_BYTES_MAX = 1024 * 1024  # a larger body is not kept for another try
H2_STREAMS_MAX = 1000  # per connection: the parallel client opens hundreds of streams on one
H2_WINDOW_BYTES = 256 * 1024
HEADERS_MAX = 100
HEADER_KB_MAX = 8192  # Envoy's own limit
IDLE_SHARE = 0.5  # of the gateways' idle time-out: whoever reuses a connection must be the one who closes it
IDLE_MARGIN_S = 30.0  # past the longest call, so that the gateway's own deadline answers first
ADMIN_MODE = 0o600

TYPE = "type.googleapis.com/envoy."
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


@dataclass(frozen=True, slots=True)
class Address:
    """A resolved address: `host` is an IP address, as Envoy wants it."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class EdgePlan:
    """Everything the edge's configuration depends on. Seconds, bytes; `connections_max` over both addresses."""

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


def bootstrap(plan: EdgePlan) -> str:
    """The whole configuration as JSON."""
    return json.dumps(_bootstrap(plan), indent=1) + "\n"


def _bootstrap(plan: EdgePlan) -> Tree:
    return {
        "node": {"id": "edge", "cluster": "edge"},
        "admin": {"address": {"pipe": {"path": str(plan.admin), "mode": ADMIN_MODE}}},
        "static_resources": {
            "listeners": [_listener(WEB, plan.web, plan), _listener(MOBILE, plan.mobile, plan)],
            "clusters": [
                _cluster(WEB, plan.web_gateways, plan.mobile_gateways, plan),
                _cluster(MOBILE, plan.mobile_gateways, plan.web_gateways, plan),
            ],
        },
        "overload_manager": {
            "resource_monitors": [
                _typed(
                    "envoy.resource_monitors.global_downstream_max_connections",
                    "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                    max_active_downstream_connections=plan.connections_max,
                )
            ]
        },
    }


def _listener(kind: str, address: Address, plan: EdgePlan) -> Tree:
    limit = _typed(
        "envoy.filters.network.connection_limit",
        "extensions.filters.network.connection_limit.v3.ConnectionLimit",
        stat_prefix=kind,
        max_connections=max(1, math.floor(plan.connections_max * LISTENER_SHARE)),
    )
    return {
        "name": kind,
        "address": _socket(address),
        "filter_chains": [{"filters": [limit, _http(kind, plan)]}],
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        # With SO_REUSEPORT a second platform could quietly share the address; without, it is told that the port is taken.
        "enable_reuse_port": False,
    }


def _http(kind: str, plan: EdgePlan) -> Tree:
    return _typed(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=kind,
        codec_type="AUTO",  # HTTP/1.1, and HTTP/2 with prior knowledge
        route_config={
            "name": kind,
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [_route(kind, plan)]}],
        },
        http_filters=[
            _typed(
                "envoy.filters.http.router", "extensions.filters.http.router.v3.Router", suppress_envoy_headers=True
            )
        ],
        http2_protocol_options={
            "max_concurrent_streams": H2_STREAMS_MAX,
            "initial_stream_window_size": H2_WINDOW_BYTES,
            "initial_connection_window_size": 4 * H2_WINDOW_BYTES,
        },
        common_http_protocol_options={
            "idle_timeout": _s(plan.idle_timeout_s),
            "max_headers_count": HEADERS_MAX,
        },
        max_request_headers_kb=min(HEADER_KB_MAX, math.ceil(plan.header_bytes_max / 1024)),
        request_headers_timeout=_s(plan.header_timeout_s),
        request_timeout=_s(plan.header_timeout_s + plan.body_timeout_s),
        stream_idle_timeout=_s(plan.call_s_max + IDLE_MARGIN_S),
        # The peer is who connects to us, and nobody is internal: x-envoy-* headers of clients are dropped.
        use_remote_address=True,
        internal_address_config={"unix_sockets": False, "cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
        generate_request_id=False,
        preserve_external_request_id=True,
        server_header_transformation="PASS_THROUGH",
        normalize_path=False,  # the gateway judges paths; two opinions are one too many
        merge_slashes=False,
        path_with_escaped_slashes_action="KEEP_UNCHANGED",
        local_reply_config=local_replies(),
    )  # fmt: skip


def _route(kind: str, plan: EdgePlan) -> Tree:
    gateways = len(plan.web_gateways) + len(plan.mobile_gateways)
    return {
        "match": {"prefix": "/"},
        "route": {
            "cluster": kind,
            "timeout": "0s",  # a stream has no total time here; the gateway holds the deadlines
            "idle_timeout": _s(plan.call_s_max + IDLE_MARGIN_S),
            "retry_policy": {
                "retry_on": "connect-failure,refused-stream,reset-before-request",
                "num_retries": max(1, min(RETRIES_MAX, gateways)),
                "retry_back_off": {"base_interval": "0.01s", "max_interval": "0.1s"},
                "host_selection_retry_max_attempts": 5,
                "retry_host_predicate": [
                    _typed(
                        "envoy.retry_host_predicates.previous_hosts",
                        "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
                    )
                ],
                "retry_priority": _typed(
                    "envoy.retry_priorities.previous_priorities",
                    "extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                    update_frequency=2,
                ),
            },
        },
        "request_body_buffer_limit": REPLAY_BYTES_MAX,
    }


def _cluster(kind: str, own: Sequence[Address], other: Sequence[Address], plan: EdgePlan) -> Tree:
    interval = _s(plan.health_interval_s)
    groups = [group for group in (own, other) if group]
    return {
        "name": kind,
        "type": "STATIC",
        "connect_timeout": _s(CONNECT_TIMEOUT_S),
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": {"healthy_panic_threshold": {"value": PANIC_PERCENT}},
        "load_assignment": {
            "cluster_name": kind,
            "endpoints": [
                {"priority": priority, "lb_endpoints": [{"endpoint": {"address": _socket(one)}} for one in group]}
                for priority, group in enumerate(groups)
            ],
            "policy": {"overprovisioning_factor": OVERPROVISIONING},
        },
        "health_checks": [
            {
                "timeout": _s(HEALTH_TIMEOUT_S),
                "interval": interval,
                "no_traffic_interval": interval,
                "no_traffic_healthy_interval": interval,
                "unhealthy_threshold": UNHEALTHY_AFTER,
                "healthy_threshold": HEALTHY_AFTER,
                "http_health_check": {"path": READY_PATH, "host": HEALTH_HOST},
            }
        ],
        "outlier_detection": {
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 1,
            "enforcing_consecutive_local_origin_failure": 100,
            "enforcing_local_origin_success_rate": 0,
            "consecutive_gateway_failure": 2,
            # A gateway that answers 503 because every worker is busy is alive: only /readyz may take it out for that.
            "enforcing_consecutive_gateway_failure": 0,
            "enforcing_consecutive_5xx": 0,
            "enforcing_success_rate": 0,
            "interval": _s(plan.health_interval_s),
            "base_ejection_time": _s(EJECTION_S),
            "max_ejection_time": _s(EJECTION_S),
            "max_ejection_percent": 100,
        },
        "circuit_breakers": {
            "thresholds": [
                {
                    "priority": "DEFAULT",
                    **dict.fromkeys(
                        ("max_connections", "max_pending_requests", "max_requests", "max_retries"), plan.connections_max
                    ),
                }
            ]
        },
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "typed_extension_protocol_options": {
            HTTP_OPTIONS: {
                "@type": TYPE + HTTP_OPTIONS.removeprefix("envoy."),
                "explicit_http_config": {"http_protocol_options": {}},
                "common_http_protocol_options": {"idle_timeout": _s(plan.idle_timeout_s * IDLE_SHARE)},
            }
        },
    }


def _typed(name: str, kind: str, **settings: object) -> Tree:
    return {"name": name, "typed_config": {"@type": TYPE + kind, **settings}}


def _socket(address: Address) -> Tree:
    return {"socket_address": {"address": address.host, "port_value": address.port}}


def _s(seconds: float) -> str:
    return f"{seconds:.3f}s"
