"""From the configuration to command lines: names, addresses, processors, replicas."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as change

from cordee.compose.layout import Ground, lay_out, seats
from cordee.config.sections.entrances import Entry, Tls
from cordee.config.sections.models import Serve
from cordee.config.sections.processes import Link, Worker
from cordee.config.tree import Config
from cordee.supervisor.addresses import resolve
from cordee.supervisor.watched import Spec

CONFIG = Config()


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    (tmp_path / "run").mkdir()
    return Ground(
        data=tmp_path,
        sockets=tmp_path / "run",
        config_file=tmp_path / "run" / "config.json",
        model="m",
        model_name="m",
        envoy=Path("/bin/envoy"),
        web=resolve("127.0.0.1:8000", "--web"),
        mobile=resolve("127.0.0.1:8100", "--mobile"),
        cores=(0, 1),
        descriptors_max=20_000,
        environment={"PATH": "/bin", "CORDEE_ADMIN_KEY": "secret"},
        edge_environment={"PATH": "/bin"},
    )


def by_name(specs: tuple[Spec, ...]) -> dict[str, Spec]:
    return {spec.name: spec for spec in specs}


def option(spec: Spec, name: str) -> list[str]:
    argv = spec.program.argv
    return [argv[i + 1] for i, word in enumerate(argv) if word == name]


def test_the_default_is_two_servers_of_three_and_an_edge(ground: Ground) -> None:
    specs = lay_out(CONFIG, ground)
    assert [spec.name for spec in specs] == [
        *("worker-1", "worker-2", "web-1", "web-2", "mobile-1", "mobile-2", "services-1", "services-2", "edge")
    ]
    assert [spec.server for spec in specs] == [1, 2, 1, 2, 1, 2, 1, 2, 0]
    assert [spec.processor for spec in specs[:3]] == ["P1 → core 0", "P2 → core 1", "P3 → core 0"]
    assert specs[-1].program.cores is None


def test_every_gateway_knows_every_worker_and_how_many_share_them(ground: Ground) -> None:
    specs = by_name(lay_out(CONFIG, ground))
    for name in ("web-1", "web-2", "mobile-1", "mobile-2"):
        assert option(specs[name], "--replica") == [specs["worker-1"].address, specs["worker-2"].address]
        assert option(specs[name], "--gateways") == ["4"]
        assert option(specs[name], "--kind") == [name.split("-")[0]]
        assert option(specs[name], "--listen") == [specs[name].address]
    assert specs["worker-1"].address == f"unix:{ground.sockets}/worker-1.sock"


def test_workers_listen_with_tls_where_the_link_asks_for_it(ground: Ground) -> None:
    specs = by_name(lay_out(change(CONFIG, link=Link(transport="tls")), ground))
    assert specs["worker-1"].address.startswith("tls://127.0.0.1:")
    assert option(specs["web-1"], "--replica")[0] == specs["worker-1"].address


def test_addresses_are_private_distinct_and_stable(ground: Ground) -> None:
    specs = lay_out(CONFIG, ground)
    assert len({spec.address for spec in specs}) == len(specs)
    assert all(spec.address.startswith("127.0.0.1:") for spec in specs if spec.role in ("web", "mobile"))
    assert [spec.address for spec in specs] == [spec.address for spec in lay_out(CONFIG, ground)]


def test_more_of_a_kind_get_numbers_and_lie_on_different_processors() -> None:
    config = change(CONFIG, worker=Worker(per_server=2), web=Entry(address="127.0.0.1:1", gateways_per_server=2))
    names = [seat.name for seat in seats(config)]
    assert names == [
        *("worker-1", "worker-2", "worker-1-2", "worker-2-2"),
        *("web-1", "web-2", "web-1-2", "web-2-2"),
        *("mobile-1", "mobile-2"),
        *("services-1", "services-2"),
    ]


def test_services_ask_the_gateways_of_their_own_server_first_and_are_asked_by_them_first(ground: Ground) -> None:
    specs = by_name(lay_out(CONFIG, replace(ground, services_environment={"PATH": "/bin"})))
    services = specs["services-2"]
    assert services.address == f"unix:{ground.sockets}/services-2.sock"
    assert option(services, "--gateway") == [specs[name].address for name in ("web-2", "mobile-2", "web-1", "mobile-1")]
    assert (services.is_essential, services.processor) == (False, "any")
    assert dict(services.program.environment) == {"PATH": "/bin"}
    for name, nearest in (("web-1", "services-1"), ("mobile-2", "services-2")):
        assert len(option(specs[name], "--services")) == 2
        assert option(specs[name], "--services")[0] == specs[nearest].address
    assert option(specs["worker-1"], "--services") == []


def test_services_reach_a_gateway_that_listens_on_all_addresses(ground: Ground) -> None:
    everywhere = resolve("0.0.0.0:8000", "--web")
    specs = by_name(lay_out(CONFIG, replace(ground, envoy=None, web=everywhere)))
    assert option(specs["services-1"], "--gateway")[0] == "127.0.0.1:8000"


def test_services_that_nobody_wants_are_not_there(ground: Ground) -> None:
    specs = by_name(lay_out(change(CONFIG, services=change(CONFIG.services, enabled=False)), ground))
    assert "services-1" not in specs
    assert option(specs["web-1"], "--services") == []


def test_without_an_edge_the_first_gateway_of_each_kind_takes_the_public_address(ground: Ground) -> None:
    specs = by_name(lay_out(CONFIG, replace(ground, envoy=None)))
    assert specs["web-1"].address == "127.0.0.1:8000"
    assert specs["mobile-1"].address == "127.0.0.1:8100"
    assert specs["web-2"].address not in ("127.0.0.1:8000", "127.0.0.1:8100")
    assert "edge" not in specs


def test_no_key_is_on_a_command_line_or_in_the_edges_environment(ground: Ground) -> None:
    for spec in lay_out(CONFIG, ground):
        assert "secret" not in " ".join(spec.program.argv)
        assert ("CORDEE_ADMIN_KEY" in spec.program.environment) is (spec.role not in ("edge", "services"))


def test_the_edge_takes_no_more_connections_than_it_has_descriptors_for(ground: Ground) -> None:
    lay_out(CONFIG, replace(ground, descriptors_max=1256))
    edge = json.loads(ground.edge_config.read_text())
    limits = edge["overload_manager"]["resource_monitors"][0]["typed_config"]
    assert limits["max_active_downstream_connections"] == 500


def test_the_working_directory_is_not_imported_from(ground: Ground) -> None:
    for spec in lay_out(CONFIG, ground)[:-1]:
        assert spec.program.argv[1:4] == ("-P", "-m", "cordee.cli")


def test_the_edge_knows_where_mobile_gateways_speak_grpc_and_no_certificate_unless_tls_is_on(ground: Ground) -> None:
    specs = by_name(lay_out(CONFIG, ground))
    edge = json.loads(ground.edge_config.read_text())
    grpc = next(one for one in edge["static_resources"]["clusters"] if one["name"] == "grpc")
    ports = {
        str(one["endpoint"]["address"]["socket_address"]["port_value"])
        for one in grpc["load_assignment"]["endpoints"][0]["lb_endpoints"]
    }
    assert ports == {option(specs[name], "--grpc")[0].rpartition(":")[2] for name in ("mobile-1", "mobile-2")}
    assert str(ground.edge_secret) not in ground.edge_config.read_text()
    lay_out(change(CONFIG, edge=change(CONFIG.edge, tls=Tls(enabled=True))), ground)
    assert str(ground.edge_secret) in ground.edge_config.read_text()


def test_the_store_is_a_process_of_its_own_and_every_gateway_knows_it(ground: Ground) -> None:
    specs = by_name(lay_out(CONFIG, replace(ground, valkey=Path("/bin/valkey-server"))))
    assert specs["store"].address == f"unix:{ground.sockets}/store.sock"
    assert "CORDEE_ADMIN_KEY" not in specs["store"].program.environment
    assert (ground.data / "store").stat().st_mode & 0o077 == 0
    for name in ("web-1", "web-2", "mobile-1", "mobile-2"):
        assert option(specs[name], "--store") == [specs["store"].address]
    assert option(specs["worker-1"], "--store") == []


def test_further_models_have_workers_of_their_own_which_every_gateway_knows(ground: Ground) -> None:
    config = change(CONFIG, serve=(Serve(model="oracle", name="talk", servers=1, load="demand"),))
    specs = by_name(lay_out(config, ground))
    worker = specs["worker-1.talk"]
    assert option(worker, "--serves") == ["talk"]
    assert "--model" not in worker.program.argv
    assert (worker.model, worker.is_essential) == ("talk", False)
    assert specs["worker-1"].is_essential
    assert "worker-2.talk" not in specs
    assert worker.address in option(specs["web-2"], "--replica")
