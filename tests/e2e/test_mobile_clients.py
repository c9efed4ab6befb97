"""The clients in docs/mobile.md are run as they stand there, and lose their gateway in the middle of an answer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stores import running_store
from tests.rig import KEY, PATIENCE_S, Rig, oracle_text

pytestmark = pytest.mark.e2e

PAGE = (Path(__file__).parents[2] / "docs" / "mobile.md").read_text()
SEED, TOKENS = 77, 300  # as the clients on the page ask for
KILLED_AFTER = 200  # characters


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with (
        running_store(tmp_path) as store,
        Rig(tmp_path, kind="mobile", gateways=2, gateway_flags=("--store", store)) as rig,
    ):
        yield rig


def client(name: str) -> str:
    """The program on the page that begins with its name."""
    found = re.search(rf"```python\n(# {re.escape(name)}:.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def run_and_kill(rig: Rig, name: str, ports: list[int]) -> str:
    """What the client prints when its first gateway is killed while it listens."""
    (rig.directory / name).write_text(client(name))
    environment = {
        **os.environ, "CORDEE_KEY": KEY, "CORDEE_MODEL": "oracle",
        "CORDEE_GATEWAYS": ",".join(f"127.0.0.1:{port}" for port in ports),
    }  # fmt: skip
    with subprocess.Popen(
        [sys.executable, name], env=environment, cwd=rig.directory, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        text = process.stdout.read(KILLED_AFTER)
        rig.gateways[0].kill()
        text += process.stdout.read()
        assert process.wait(PATIENCE_S) == 0
    return text


def test_the_websocket_client_goes_on_at_another_gateway(rig):
    assert run_and_kill(rig, "websocket_client.py", rig.ports) == oracle_text(SEED, TOKENS)


def test_the_grpc_client_is_made_of_the_published_definition_and_goes_on_at_another_gateway(rig):
    (rig.directory / "chat.proto").write_text(rig.get("/proto/cordee/v1/chat.proto"))
    command = re.search(r"^python (-m grpc_tools.protoc .*)$", PAGE, re.MULTILINE)
    assert command is not None
    subprocess.run([sys.executable, *command[1].split()], cwd=rig.directory, check=True, timeout=PATIENCE_S)
    assert run_and_kill(rig, "grpc_client.py", rig.grpc_ports) == oracle_text(SEED, TOKENS)
