"""The edge's configuration: what is tried again, who takes over, what a client may not change."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cordee.adapters.envoy import Address, EdgePlan, bootstrap
from cordee.adapters.envoy_binary import EnvoyMissingError, binary, command

PLAN = EdgePlan(
    web=Address("127.0.0.1", 8000),
    mobile=Address("::1", 8100),
    web_gateways=(Address("127.0.0.1", 20001), Address("127.0.0.1", 20002)),
    mobile_gateways=(Address("127.0.0.1", 20003),),
    admin=Path("/run/edge-admin.sock"),
    health_interval_s=0.25,
    connections_max=1000,
    header_bytes_max=32 * 1024,
    header_timeout_s=10.0,
    body_timeout_s=30.0,
    idle_timeout_s=120.0,
    call_s_max=600.0,
)


def tree(plan: EdgePlan = PLAN) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(bootstrap(plan))
    return parsed


def clusters(plan: EdgePlan = PLAN) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in tree(plan)["static_resources"]["clusters"]}


def ports(cluster: dict[str, Any]) -> list[list[int]]:
    return [
        [one["endpoint"]["address"]["socket_address"]["port_value"] for one in group["lb_endpoints"]]
        for group in cluster["load_assignment"]["endpoints"]
    ]


def http(plan: EdgePlan = PLAN) -> list[dict[str, Any]]:
    return [
        one["filter_chains"][0]["filters"][1]["typed_config"] for one in tree(plan)["static_resources"]["listeners"]
    ]


def test_each_kind_has_its_own_gateways_first_and_the_other_kind_second() -> None:
    assert ports(clusters()["web"]) == [[20001, 20002], [20003]]
    assert ports(clusters()["mobile"]) == [[20003], [20001, 20002]]


def test_a_kind_without_gateways_is_served_by_the_other() -> None:
    without = clusters(replace(PLAN, mobile_gateways=()))
    assert ports(without["mobile"]) == [[20001, 20002]]
    assert without["mobile"]["load_assignment"]["endpoints"][0]["priority"] == 0


def test_only_what_cannot_have_run_is_tried_again() -> None:
    for manager in http():
        for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
            again = set(route["route"]["retry_policy"]["retry_on"].split(","))
            reading = [one["string_match"]["safe_regex"]["regex"] for one in route["match"].get("headers", ())]
            assert reading in ([], ["GET|HEAD"])
            assert again - {"connect-failure", "refused-stream", "reset-before-request"} == (
                {"reset"} if reading else set()
            )


def test_a_busy_gateway_is_not_ejected_for_its_refusals() -> None:
    for cluster in clusters().values():
        outliers = cluster["outlier_detection"]
        assert outliers["enforcing_consecutive_5xx"] == 0
        assert outliers["enforcing_consecutive_gateway_failure"] == 0
        assert outliers["consecutive_local_origin_failure"] == 1


def test_a_stream_may_be_silent_for_as_long_as_the_longest_call() -> None:
    for manager in http(replace(PLAN, call_s_max=1234.0)):
        route = manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]
        assert route["timeout"] == "0s"
        assert float(manager["stream_idle_timeout"].rstrip("s")) > 1234
        assert float(route["idle_timeout"].rstrip("s")) > 1234


def test_the_edge_lets_go_of_idle_connections_before_the_gateway_does() -> None:
    for cluster in clusters().values():
        (options,) = cluster["typed_extension_protocol_options"].values()
        assert float(options["common_http_protocol_options"]["idle_timeout"].rstrip("s")) < PLAN.idle_timeout_s


def test_refusals_of_the_edge_have_openais_shape() -> None:
    mappers = http()[0]["local_reply_config"]["mappers"]
    bodies = [one["body_format_override"]["text_format_source"]["inline_string"] for one in mappers]
    for body in bodies:
        assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    codes = [json.loads(body)["error"]["code"] for body in bodies]
    assert codes[:2] == ["gateway_lost", "no_gateway"]
    no_gateway = mappers[1]
    assert no_gateway["headers_to_add"][0]["header"] == {"key": "retry-after", "value": "1"}


def test_nobody_is_internal_and_an_address_is_never_shared() -> None:
    for manager in http():
        assert manager["use_remote_address"] is True
        assert manager["internal_address_config"]["cidr_ranges"] == [
            {"address_prefix": "255.255.255.255", "prefix_len": 32}
        ]
    assert all(one["enable_reuse_port"] is False for one in tree()["static_resources"]["listeners"])


def test_the_admin_interface_is_a_socket_of_the_owner() -> None:
    assert tree()["admin"]["address"] == {"pipe": {"path": "/run/edge-admin.sock", "mode": 0o600}}


def test_the_header_limit_is_the_gateways() -> None:
    assert {manager["max_request_headers_kb"] for manager in http()} == {32}
    assert {manager["max_request_headers_kb"] for manager in http(replace(PLAN, header_bytes_max=1025))} == {2}


def test_the_binary_is_found_in_the_package() -> None:
    assert binary("").name == "envoy"


def test_a_wrong_binary_is_refused_with_the_setting_to_change(tmp_path: Path) -> None:
    with pytest.raises(EnvoyMissingError, match=r"no Envoy at .*: correct edge\.binary"):
        binary(str(tmp_path / "envoy"))


def test_the_command_leaves_no_shared_memory() -> None:
    argv = command(Path("/bin/envoy"), Path("/x/edge.json"), 1)
    assert "--disable-hot-restart" in argv
    assert argv[argv.index("--concurrency") + 1] == "1"


SECURE = replace(PLAN, secret=Path("/run/edge-secret.json"), grpc_gateways=(Address("127.0.0.1", 20004),))


def listeners(plan: EdgePlan) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in tree(plan)["static_resources"]["listeners"]}


def manager_of(listener: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = listener["filter_chains"][0]["filters"][-1]["typed_config"]
    return found


def routes(listener: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = manager_of(listener)["route_config"]["virtual_hosts"][0]["routes"]
    return found


def test_with_a_certificate_each_port_speaks_tls_and_quic_and_without_one_neither() -> None:
    assert set(listeners(PLAN)) == {"web", "mobile"}
    assert all("transport_socket" not in one["filter_chains"][0] for one in listeners(PLAN).values())
    secure = listeners(SECURE)
    assert set(secure) == {"web", "mobile", "web-h3", "mobile-h3"}
    assert all("transport_socket" in one["filter_chains"][0] for one in secure.values())
    for kind in ("web", "mobile"):
        tcp, udp = (secure[name]["address"]["socket_address"] for name in (kind, f"{kind}-h3"))
        assert (tcp["protocol"], udp["protocol"]) == ("TCP", "UDP")
        assert tcp["port_value"] == udp["port_value"]
    assert set(listeners(replace(SECURE, http3=False))) == {"web", "mobile"}


def test_http_3_is_announced_where_it_is_spoken() -> None:
    def announced(plan: EdgePlan) -> list[str]:
        hosts = [manager_of(one)["route_config"]["virtual_hosts"][0] for one in listeners(plan).values()]
        return [header["header"]["value"] for host in hosts for header in host.get("response_headers_to_add", ())]

    assert announced(PLAN) == []
    assert announced(replace(SECURE, http3=False)) == []
    assert set(announced(SECURE)) == {'h3=":8000"; ma=86400', 'h3=":8100"; ma=86400'}


def test_grpc_and_web_sockets_are_for_the_mobile_address_only() -> None:
    web, mobile = listeners(SECURE)["web"], listeners(SECURE)["mobile"]
    assert [one["route"]["cluster"] for one in routes(web)] == ["web", "web"]
    assert "upgrade_configs" not in manager_of(web)
    reading = {"prefix": "/", "headers": [{"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}]}
    assert [(one["match"], one["route"]["cluster"]) for one in routes(mobile)] == [
        ({"prefix": "/", "grpc": {}}, "grpc"),
        ({"prefix": "/v1/realtime/"}, "mobile"),
        (reading, "mobile"),
        ({"prefix": "/"}, "mobile"),
    ]
    upgrades = [one["route"].get("upgrade_configs") for one in routes(mobile)]
    assert upgrades == [None, [{"upgrade_type": "websocket", "enabled": True}], None, None]
    assert manager_of(mobile)["upgrade_configs"] == [{"upgrade_type": "websocket", "enabled": False}]


def test_grpc_gateways_are_spoken_to_and_looked_after_in_http_2() -> None:
    grpc = clusters(SECURE)["grpc"]
    assert ports(grpc) == [[20004]]
    assert "grpc_health_check" in grpc["health_checks"][0]
    (options,) = grpc["typed_extension_protocol_options"].values()
    assert "http2_protocol_options" in options["explicit_http_config"]
    assert "grpc" not in clusters(PLAN)


def test_only_json_is_compressed() -> None:
    for listener in listeners(SECURE).values():
        filters = manager_of(listener)["http_filters"]
        matchers = [
            one["typed_config"]["response_direction_config"]["common_config"]["content_type_matcher"]
            for one in filters
            if one["name"] == "envoy.filters.http.compressor"
        ]
        assert matchers == [{"prefix": "application/json"}] * 3
        assert filters[-1]["name"] == "envoy.filters.http.router"
    assert len(manager_of(listeners(replace(SECURE, compression=False))["web"])["http_filters"]) == 1


def test_every_limit_on_floods_is_written_out() -> None:
    for manager in http():
        assert {
            "max_concurrent_streams",
            "max_outbound_frames",
            "max_outbound_control_frames",
            "max_consecutive_inbound_frames_with_empty_payload",
            "max_inbound_priority_frames_per_stream",
            "max_inbound_window_update_frames_per_data_frame_sent",
        } <= set(manager["http2_protocol_options"])
    (layer,) = tree()["layered_runtime"]["layers"]
    assert layer["static_layer"]["overload.premature_reset_total_stream_count"] == 200


def test_what_is_found_of_a_gateway_counts_at_once() -> None:
    clusters = tree()["static_resources"]["clusters"]
    assert {one["common_lb_config"]["update_merge_window"] for one in clusters} == {"0.000s"}
