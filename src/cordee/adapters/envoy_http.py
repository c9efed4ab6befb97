"""What the edge does with the bytes of a client: HTTP/1.1, 2 and 3, their limits, compression, and which path goes where.

Decided here, each for a reason:

- HTTP/2's known floods (rapid reset, CONTINUATION, SETTINGS, PING, empty frames) end the connection that sends them, by limits
  that are written out, whatever Envoy's defaults become. Nobody else's connection notices.
- JSON is compressed for those who ask. Event streams never are: a compressor holds bytes back until it has enough of them, and a
  token that waits for its neighbours is late.
- WebSockets and gRPC are let through on the mobile address only; web gateways speak neither.
"""

from __future__ import annotations

import math

from cordee.adapters.envoy_plan import MOBILE, WEB, EdgePlan, Tree, seconds, typed
from cordee.adapters.envoy_replies import local_replies

GRPC = "grpc"  # the cluster of the mobile gateways' gRPC ports
REALTIME_PATH = "/v1/realtime/"
WEBSOCKET = "websocket"

TRIED_AGAIN = "connect-failure,refused-stream,reset-before-request"  # what cannot have run
RETRIES_MAX = 10
REPLAY_BYTES_MAX = 1024 * 1024  # a larger body is not kept for another try
HEADERS_MAX = 100
HEADER_KB_MAX = 8192  # Envoy's own limit
IDLE_MARGIN_S = 30.0  # past the longest call, so that the gateway's own deadline answers first
ALT_SVC_S = 86_400  # how long a client may remember that HTTP/3 is spoken here

H2_STREAMS_MAX = 1000  # per connection: the parallel client opens hundreds of streams on one
H2_WINDOW_BYTES = 256 * 1024
H2_OUTBOUND_FRAMES_MAX = 10_000  # queued for a client that does not read
H2_CONTROL_FRAMES_MAX = 500  # queued answers to PING, SETTINGS and RST_STREAM of a client that does not read them
H2_EMPTY_FRAMES_MAX = 1  # in a row: they cost us and carry nothing
H2_PRIORITY_FRAMES_MAX = 10  # per stream: nothing here looks at priorities
H2_WINDOW_UPDATES_MAX = 10  # per DATA frame sent
H2_KEEPALIVE_S = 30.0  # a client that vanished without a word is noticed after this and the next
H2_KEEPALIVE_ANSWER_S = 15.0
RESETS_MAX = (
    200  # streams of one connection given up within RESET_YOUNG_S, when they are the greater part of its streams
)
RESET_YOUNG_S = 1
REQUESTS_PER_READ_MAX = 100  # of one connection before the others have their turn

COMPRESS_FROM_BYTES = 512  # below, the headers of compression cost more than it saves
COMPRESSORS = (  # in the order they are preferred where a client takes several alike
    ("zstd", "extensions.compression.zstd.compressor.v3.Zstd"),
    ("brotli", "extensions.compression.brotli.compressor.v3.Brotli"),
    ("gzip", "extensions.compression.gzip.compressor.v3.Gzip"),
)


def connection_manager(kind: str, plan: EdgePlan, *, codec: str = "AUTO") -> Tree:
    """`codec` AUTO: HTTP/1.1, and HTTP/2 by ALPN or with prior knowledge; HTTP3: over QUIC."""
    settings: Tree = {"http3_protocol_options": _http3()} if codec == "HTTP3" else {"http2_protocol_options": _http2()}
    if kind == MOBILE:
        # Off but for the one route that turns it on: everything else refuses to change protocols.
        settings["upgrade_configs"] = [{"upgrade_type": WEBSOCKET, "enabled": False}]
    return typed(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=kind,
        codec_type=codec,
        route_config={"name": kind, "virtual_hosts": [_everything(kind, plan)]},
        http_filters=[*(_compressors() if plan.compression else ()), _router()],
        common_http_protocol_options={
            "idle_timeout": seconds(plan.idle_timeout_s),
            "max_headers_count": HEADERS_MAX,
        },
        max_request_headers_kb=min(HEADER_KB_MAX, math.ceil(plan.header_bytes_max / 1024)),
        request_headers_timeout=seconds(plan.header_timeout_s),
        request_timeout=seconds(plan.header_timeout_s + plan.body_timeout_s),
        stream_idle_timeout=seconds(plan.call_s_max + IDLE_MARGIN_S),
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
        **settings,
    )  # fmt: skip


def runtime() -> Tree:
    """Limits that Envoy takes from its runtime layer only."""
    return {
        "layers": [
            {
                "name": "limits",
                "static_layer": {
                    "overload.premature_reset_total_stream_count": RESETS_MAX,
                    "overload.premature_reset_min_stream_lifetime_seconds": RESET_YOUNG_S,
                    "http.max_requests_per_io_cycle": REQUESTS_PER_READ_MAX,
                },
            }
        ]
    }


def _http2() -> Tree:
    return {
        "max_concurrent_streams": H2_STREAMS_MAX,
        "initial_stream_window_size": H2_WINDOW_BYTES,
        "initial_connection_window_size": 4 * H2_WINDOW_BYTES,
        "max_outbound_frames": H2_OUTBOUND_FRAMES_MAX,
        "max_outbound_control_frames": H2_CONTROL_FRAMES_MAX,
        "max_consecutive_inbound_frames_with_empty_payload": H2_EMPTY_FRAMES_MAX,
        "max_inbound_priority_frames_per_stream": H2_PRIORITY_FRAMES_MAX,
        "max_inbound_window_update_frames_per_data_frame_sent": H2_WINDOW_UPDATES_MAX,
        "connection_keepalive": {
            "interval": seconds(H2_KEEPALIVE_S),
            "timeout": seconds(H2_KEEPALIVE_ANSWER_S),
        },
    }


def _http3() -> Tree:
    return {
        "quic_protocol_options": {
            "max_concurrent_streams": H2_STREAMS_MAX,
            "initial_stream_window_size": H2_WINDOW_BYTES,
            "initial_connection_window_size": 4 * H2_WINDOW_BYTES,
        }
    }


def _compressors() -> list[Tree]:
    return [
        typed(
            "envoy.filters.http.compressor",
            "extensions.filters.http.compressor.v3.Compressor",
            compressor_library=typed(name, kind),
            choose_first=True,
            response_direction_config={
                "common_config": {
                    "min_content_length": COMPRESS_FROM_BYTES,
                    "content_type_matcher": {"prefix": "application/json"},
                }
            },
        )
        for name, kind in COMPRESSORS
    ]


def _router() -> Tree:
    return typed("envoy.filters.http.router", "extensions.filters.http.router.v3.Router", suppress_envoy_headers=True)


def _everything(kind: str, plan: EdgePlan) -> Tree:
    host: Tree = {"name": "all", "domains": ["*"], "routes": [_route(kind, plan, reading=True), _route(kind, plan)]}
    if kind == MOBILE:
        realtime = _route(kind, plan, prefix=REALTIME_PATH)
        realtime["route"]["upgrade_configs"] = [{"upgrade_type": WEBSOCKET, "enabled": True}]
        host["routes"].insert(0, realtime)
        if plan.grpc_gateways:
            host["routes"].insert(0, _route(GRPC, plan, grpc=True))
    if plan.speaks_http3:
        port = (plan.web if kind == WEB else plan.mobile).port
        host["response_headers_to_add"] = [
            {
                "header": {"key": "alt-svc", "value": f'h3=":{port}"; ma={ALT_SVC_S}'},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ]
    return host


def _route(cluster: str, plan: EdgePlan, *, prefix: str = "/", grpc: bool = False, reading: bool = False) -> Tree:
    """`reading`: for requests that change nothing, which may be tried again even where they may have run."""
    gateways = len(plan.web_gateways) + len(plan.mobile_gateways)
    match: Tree = {"prefix": prefix}
    if grpc:
        match["grpc"] = {}
    if reading:
        match["headers"] = [{"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}]
    return {
        "match": match,
        "route": {
            "cluster": cluster,
            "timeout": "0s",  # a stream has no total time here; the gateway holds the deadlines
            "idle_timeout": seconds(plan.call_s_max + IDLE_MARGIN_S),
            "retry_policy": {
                "retry_on": TRIED_AGAIN + (",reset" if reading else ""),
                "num_retries": max(1, min(RETRIES_MAX, gateways)),
                "retry_back_off": {"base_interval": "0.01s", "max_interval": "0.1s"},
                "host_selection_retry_max_attempts": 5,
                "retry_host_predicate": [
                    typed(
                        "envoy.retry_host_predicates.previous_hosts",
                        "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
                    )
                ],
                "retry_priority": typed(
                    "envoy.retry_priorities.previous_priorities",
                    "extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                    update_frequency=2,
                ),
            },
        },
        "request_body_buffer_limit": REPLAY_BYTES_MAX,
    }
