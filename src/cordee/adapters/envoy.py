"""The edge: what Envoy is told. Two public addresses, each for its own kind of gateway, or the other when none is left.

Decided here, each for a reason:

- A request is tried again only where it cannot have run: no connection, a refused stream, a reset before it was sent. GET and
  HEAD change nothing and are tried again after any reset that came before an answer.
- A gateway is left out at once when it says so (`/readyz` is not 200), after two missed checks when it says nothing, and for a
  second when a connection to it fails. The other kind takes over only when *all* of the own kind are out. What is found counts
  at once, and is not gathered for a second as Envoy does for clusters of thousands.
- If every gateway of both kinds looks dead, requests are sent all the same (panic below 1 %): a machine that is too busy to
  answer health checks must not be turned into an outage, and a gateway that really is dead refuses the connection.
- Limits and header rules come from the gateways' own configuration, so that both refuse the same things; what Envoy itself
  refuses has OpenAI's error shape.
- Nothing in a request can change the rules: clients' `x-envoy-*` headers are dropped.
- With a certificate each address speaks HTTP/1.1 and 2 over TLS and, on the same port of UDP, HTTP/3; without one HTTP/1.1 and
  HTTP/2 with prior knowledge.

The result is one self-contained document, written to a file and given to `envoy -c`; only the certificate stands in a file of
its own (`envoy_tls`), because it changes while the edge runs. What happens inside a connection is decided in `envoy_http`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from cordee.adapters.envoy_http import GRPC, connection_manager, runtime
from cordee.adapters.envoy_plan import MOBILE, TYPE, WEB, Address, EdgePlan, Tree, seconds, socket_address, typed
from cordee.adapters.envoy_tls import HANDSHAKE_S, over_quic, over_tcp

__all__ = ["Address", "EdgePlan", "bootstrap"]

READY_PATH = "/readyz"
HEALTH_HOST = "edge.invalid"  # Host header of the checks; RFC 2606: never a real one

UNHEALTHY_AFTER = 2  # missed checks; one is a busy processor
HEALTHY_AFTER = 1
HEALTH_TIMEOUT_S = 0.25  # two of these and two intervals: a frozen gateway has lost its traffic within a second
EJECTION_S = 1.0  # after a refused connection; the active check keeps it out if it is really gone
CONNECT_TIMEOUT_S = 0.5  # a gateway is on this host or in its network
OVERPROVISIONING = 1000  # ‰ to % by Envoy's reckoning: one healthy gateway in ten carries all of its kind's traffic
PANIC_PERCENT = 1.0
MERGE_WINDOW_S = 0.0  # Envoy's own second would let every finding but the first wait before traffic follows it
LISTENER_SHARE = 0.75  # of all connections, so that one kind of client cannot take the last one from the other
BUFFER_BYTES = 64 * 1024  # per connection: a slow reader holds no more than this here
IDLE_SHARE = 0.5  # of the gateways' idle time-out: whoever reuses a connection must be the one who closes it
ADMIN_MODE = 0o600

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def bootstrap(plan: EdgePlan) -> str:
    """The whole configuration as JSON."""
    return json.dumps(_bootstrap(plan), indent=1) + "\n"


def _bootstrap(plan: EdgePlan) -> Tree:
    addresses = ((WEB, plan.web), (MOBILE, plan.mobile))
    return {
        "node": {"id": "edge", "cluster": "edge"},
        "admin": {"address": {"pipe": {"path": str(plan.admin), "mode": ADMIN_MODE}}},
        "static_resources": {
            "listeners": [
                *(_tcp(kind, address, plan) for kind, address in addresses),
                *(_quic(kind, address, plan) for kind, address in addresses if plan.speaks_http3),
            ],
            "clusters": [
                _cluster(WEB, plan.web_gateways, plan.mobile_gateways, plan),
                _cluster(MOBILE, plan.mobile_gateways, plan.web_gateways, plan),
                *([_cluster(GRPC, plan.grpc_gateways, (), plan)] if plan.grpc_gateways else ()),
            ],
        },
        "layered_runtime": runtime(),
        "overload_manager": {
            "resource_monitors": [
                typed(
                    "envoy.resource_monitors.global_downstream_max_connections",
                    "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                    max_active_downstream_connections=plan.connections_max,
                )
            ]
        },
    }


def _tcp(kind: str, address: Address, plan: EdgePlan) -> Tree:
    limit = typed(
        "envoy.filters.network.connection_limit",
        "extensions.filters.network.connection_limit.v3.ConnectionLimit",
        stat_prefix=kind,
        max_connections=max(1, math.floor(plan.connections_max * LISTENER_SHARE)),
    )
    chain: Tree = {"filters": [limit, connection_manager(kind, plan)]}
    if plan.secret is not None:
        chain["transport_socket"] = over_tcp(plan.secret)
        chain["transport_socket_connect_timeout"] = seconds(HANDSHAKE_S)
    return {
        "name": kind,
        "address": socket_address(address),
        "filter_chains": [chain],
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        # With SO_REUSEPORT a second platform could quietly share the address; without, it is told that the port is taken.
        "enable_reuse_port": False,
    }


def _quic(kind: str, address: Address, plan: EdgePlan) -> Tree:
    """The same port of UDP. Its port is shared between the edge's own threads; the TCP port beside it is what keeps a second
    platform away."""
    assert plan.secret is not None
    chain = {"filters": [connection_manager(kind, plan, codec="HTTP3")], "transport_socket": over_quic(plan.secret)}
    return {
        "name": f"{kind}-h3",
        "address": socket_address(address, "UDP"),
        "udp_listener_config": {
            "quic_options": {
                "idle_timeout": seconds(plan.idle_timeout_s),
                "crypto_handshake_timeout": seconds(HANDSHAKE_S),
            },
        },
        "filter_chains": [chain],
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
    }


def _cluster(kind: str, own: Sequence[Address], other: Sequence[Address], plan: EdgePlan) -> Tree:
    interval = seconds(plan.health_interval_s)
    groups = [group for group in (own, other) if group]
    is_grpc = kind == GRPC
    check: Tree = (
        {"grpc_health_check": {}} if is_grpc else {"http_health_check": {"path": READY_PATH, "host": HEALTH_HOST}}
    )
    protocol: Tree = {"http2_protocol_options": {}} if is_grpc else {"http_protocol_options": {}}
    return {
        "name": kind,
        "type": "STATIC",
        "connect_timeout": seconds(CONNECT_TIMEOUT_S),
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": {
            "healthy_panic_threshold": {"value": PANIC_PERCENT},
            "update_merge_window": seconds(MERGE_WINDOW_S),
        },
        "load_assignment": {
            "cluster_name": kind,
            "endpoints": [
                {
                    "priority": priority,
                    "lb_endpoints": [{"endpoint": {"address": socket_address(one)}} for one in group],
                }
                for priority, group in enumerate(groups)
            ],
            "policy": {"overprovisioning_factor": OVERPROVISIONING},
        },
        "health_checks": [
            {
                "timeout": seconds(HEALTH_TIMEOUT_S),
                "interval": interval,
                "no_traffic_interval": interval,
                "no_traffic_healthy_interval": interval,
                "unhealthy_threshold": UNHEALTHY_AFTER,
                "healthy_threshold": HEALTHY_AFTER,
                **check,
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
            "interval": seconds(plan.health_interval_s),
            "base_ejection_time": seconds(EJECTION_S),
            "max_ejection_time": seconds(EJECTION_S),
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
                "explicit_http_config": protocol,
                "common_http_protocol_options": {"idle_timeout": seconds(plan.idle_timeout_s * IDLE_SHARE)},
            }
        },
    }
