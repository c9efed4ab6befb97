"""Mobile gateways have a second address, and web gateways none of what it needs."""

import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace as change

from cordee.compose.layout import Ground, lay_out
from cordee.config.sections.entrances import Grpc
from cordee.config.tree import Config
from cordee.supervisor.addresses import resolve
from tests.compose.test_layout import by_name, option


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    (tmp_path / "run").mkdir()
    return Ground(
        data=tmp_path, sockets=tmp_path / "run", config_file=tmp_path / "run" / "config.json", model="m", model_name="m",
        envoy=None, web=resolve("127.0.0.1:8000", "--web"), mobile=resolve("127.0.0.1:8100", "--mobile"), cores=(0, 1),
        descriptors_max=20_000, environment={}, edge_environment={},
    )  # fmt: skip


def test_each_mobile_gateway_speaks_grpc_at_a_private_address_of_its_own(ground):
    specs = by_name(lay_out(Config(), ground))
    addresses = [*option(specs["mobile-1"], "--grpc"), *option(specs["mobile-2"], "--grpc")]
    assert len({*addresses, *(spec.address for spec in specs.values())}) == len(specs) + 2
    assert all(address.startswith("127.0.0.1:") for address in addresses)
    assert option(specs["web-1"], "--grpc") == []


def test_nobody_speaks_grpc_where_it_is_off(ground):
    specs = lay_out(change(Config(), grpc=Grpc(enabled=False)), ground)
    assert all(option(spec, "--grpc") == [] for spec in specs)


def test_a_gateway_loads_grpc_and_websockets_only_when_it_is_a_mobile_one():
    found = "import sys, cordee.compose.gateway; print(*{'grpc', 'websockets', 'google.protobuf'} & sys.modules.keys())"
    run = subprocess.run([sys.executable, "-c", found], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == ""
