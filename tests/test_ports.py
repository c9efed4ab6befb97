"""The ports that tests give to their processes."""

from __future__ import annotations

import socket

from cordee.supervisor.addresses import PRIVATE_PORTS
from tests.ports import free_port


def test_none_is_given_twice_while_its_process_starts_nor_to_a_platform() -> None:
    ports = [free_port() for _ in range(500)]
    assert len(set(ports)) == 500
    assert not set(ports) & set(PRIVATE_PORTS)


def test_one_that_is_taken_is_passed_over() -> None:
    with socket.create_server(("127.0.0.1", free_port() + 1)) as taken:
        assert taken.getsockname()[1] not in [free_port() for _ in range(3)]
