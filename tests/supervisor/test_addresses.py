"""Addresses: taken ones are named with their cure, private ones are stable and outside the ephemeral range."""

import os
import socket
from pathlib import Path

import pytest

from cordee.supervisor import addresses
from cordee.supervisor.addresses import AddressError, Resolved, check_free, private_ports, resolve, socket_dir


def test_names_and_both_families_are_resolved() -> None:
    assert resolve("127.0.0.1:8000", "--web") == Resolved(socket.AF_INET, "127.0.0.1", 8000)
    assert resolve("localhost:8000", "--web").host == "127.0.0.1"
    assert resolve("[::1]:8000", "--web").text == "[::1]:8000"


def test_any_address_is_reached_at_loopback() -> None:
    assert resolve("0.0.0.0:8000", "--web").reachable.text == "127.0.0.1:8000"
    assert resolve("[::]:8000", "--web").reachable.text == "[::1]:8000"


def test_an_unknown_host_is_refused_with_the_option_to_change() -> None:
    with pytest.raises(AddressError, match=r"--mobile no-such-host\.invalid:8100"):
        resolve("no-such-host.invalid:8100", "--mobile")


def test_a_taken_port_is_refused_with_the_option_to_change() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressError, match=rf"127.0.0.1:{port}: another program listens there.*--web HOST:PORT"):
            check_free(resolve(f"127.0.0.1:{port}", "--web"), "--web")


def test_an_address_of_another_host_is_refused() -> None:
    with pytest.raises(AddressError, match="this host has no such address"):
        check_free(Resolved(socket.AF_INET, "192.0.2.77", 8000), "--web")


def test_private_ports_are_stable_distinct_and_outside_the_ephemeral_range() -> None:
    ports = private_ports(6, "/some/where")
    assert ports == private_ports(6, "/some/where")
    assert len(set(ports)) == 6
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not any(low <= port <= high for port in ports)


def test_a_taken_private_port_is_left_out() -> None:
    first = private_ports(1, "/some/where")[0]
    with socket.create_server(("127.0.0.1", first)):
        assert first not in private_ports(3, "/some/where")
    assert first not in private_ports(3, "/some/where", frozenset({first}))


def test_no_room_for_private_ports_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    everything = tmp_path / "range"
    everything.write_text("1024 65535\n")
    monkeypatch.setattr(addresses, "EPHEMERAL_RANGE", everything)
    with pytest.raises(AddressError, match="only 0 of 2 private ports"):
        private_ports(2, "seed")


def test_sockets_lie_in_the_run_directory_where_their_paths_fit(tmp_path: Path) -> None:
    short = Path("/var/x/run")
    assert socket_dir(short, short.parent, None) == short


def test_long_paths_get_a_short_private_directory(tmp_path: Path) -> None:
    data = Path("/" + "d" * 120)
    runtime = Path("/tmp") / f"cordee-test-{os.getpid()}"
    try:
        chosen = socket_dir(data / "run", data, str(runtime))
        assert chosen == socket_dir(data / "run", data, str(runtime))
        assert chosen != socket_dir(data / "other" / "run", data / "other", str(runtime))
        assert chosen.stat().st_mode & 0o777 == 0o700
        chosen.chmod(0o755)
        with pytest.raises(AddressError, match="mode 700"):
            socket_dir(data / "run", data, str(runtime))
    finally:
        for path in sorted(runtime.rglob("*"), reverse=True):
            path.rmdir()
        runtime.rmdir()
