"""From the configuration to the processes of this host: their names, addresses, processors and command lines.

A pure function of the configuration and of the ground it stands on, but for the choice of free ports.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cordee.adapters import envoy, envoy_binary
from cordee.adapters.processes import Program
from cordee.config.tree import Config
from cordee.supervisor.addresses import LOOPBACK, Resolved, private_ports
from cordee.supervisor.placement import place
from cordee.supervisor.watched import Spec

RESERVED_DESCRIPTORS = 256  # of the edge: listeners, health checks, logs, its own files
DESCRIPTORS_PER_CALL = 2  # one to the client, one to the gateway
EDGE_THREADS_MAX = 2
CORES_FOR_TWO_EDGE_THREADS = 4
UNPINNED = "any"


@dataclass(frozen=True, slots=True)
class Ground:
    """What the processes stand on. `model` is what workers are told to load, `model_name` what clients call it;
    `envoy` is None without an edge; `descriptors_max` is the hard limit of open files."""

    data: Path
    sockets: Path
    config_file: Path
    model: str
    model_name: str
    envoy: Path | None
    web: Resolved | None
    mobile: Resolved | None
    cores: Sequence[int]
    descriptors_max: int
    environment: Mapping[str, str]
    edge_environment: Mapping[str, str]

    @property
    def run(self) -> Path:
        return self.data / "run"

    @property
    def edge_admin(self) -> Path:
        return self.sockets / "edge-admin.sock"

    @property
    def edge_config(self) -> Path:
        return self.run / "edge.json"


@dataclass(frozen=True, slots=True)
class Seat:
    """A process before it has an address: who it is."""

    role: Literal["worker", "web", "mobile"]
    server: int
    number: int  # of its role within the server, from 1

    @property
    def name(self) -> str:
        return f"{self.role}-{self.server}" + (f"-{self.number}" if self.number > 1 else "")


def seats(config: Config) -> list[Seat]:
    """Everybody but the edge; workers first, then each kind of gateway, so that equals lie on different processors."""

    def each(role: Literal["worker", "web", "mobile"], count: int) -> Iterator[Seat]:
        for number in range(1, count + 1):
            yield from (Seat(role, server, number) for server in range(1, config.servers + 1))

    return [
        *each("worker", config.worker.per_server),
        *each("web", config.web.gateways_per_server),
        *each("mobile", config.mobile.gateways_per_server),
    ]


def lay_out(config: Config, ground: Ground) -> tuple[Spec, ...]:
    """The processes, and the edge's configuration where there is one. Raises AddressError when ports run out."""
    all_seats = seats(config)
    addresses = _addresses(config, ground, all_seats)
    replicas = [_worker_url(config, address) for seat, address in addresses.items() if seat.role == "worker"]
    gateways = sum(seat.role != "worker" for seat in all_seats)
    specs = []
    processors = place([seat.role == "worker" for seat in all_seats], ground.cores)
    for seat, processor in zip(all_seats, processors, strict=True):
        address = addresses[seat]
        listen = _worker_url(config, address) if seat.role == "worker" else address
        argv = (
            *_cordee("worker" if seat.role == "worker" else "gateway"),
            *("--listen", listen, "--name", seat.name, "--server", str(seat.server)),
            *("--data", str(ground.data), "--config", str(ground.config_file), "--model", ground.model),
        )
        if seat.role != "worker":
            argv += ("--kind", seat.role, "--gateways", str(gateways))
            argv += tuple(word for url in replicas for word in ("--replica", url))
        program = Program(argv, ground.environment, _log(ground, seat.name), processor.cores)
        specs.append(Spec(seat.name, seat.role, seat.server, listen, program, str(processor), ground.model_name))
    if ground.envoy is not None:
        specs.append(_edge(config, ground, ground.envoy, addresses))
    return tuple(specs)


def edge_plan(config: Config, ground: Ground, gateways: Mapping[Seat, str]) -> envoy.EdgePlan:
    """What the edge is to do. The addresses of `gateways` are HOST:PORT."""
    assert ground.web is not None
    assert ground.mobile is not None

    def of(role: str) -> tuple[envoy.Address, ...]:
        texts = [address.rpartition(":") for seat, address in gateways.items() if seat.role == role]
        return tuple(envoy.Address(host, int(port)) for host, _, port in texts)

    affordable = max(1, (ground.descriptors_max - RESERVED_DESCRIPTORS) // DESCRIPTORS_PER_CALL)
    return envoy.EdgePlan(
        web=envoy.Address(ground.web.host, ground.web.port),
        mobile=envoy.Address(ground.mobile.host, ground.mobile.port),
        web_gateways=of("web"),
        mobile_gateways=of("mobile"),
        admin=ground.edge_admin,
        health_interval_s=config.edge.health_interval_s,
        connections_max=min(config.edge.connections_max, affordable),
        header_bytes_max=config.gateway.header_bytes_max,
        header_timeout_s=config.gateway.header_timeout_s,
        body_timeout_s=config.gateway.body_timeout_s,
        idle_timeout_s=config.gateway.idle_timeout_s,
        call_s_max=config.deadlines.total_s,
    )


def _edge(config: Config, ground: Ground, binary: Path, addresses: Mapping[Seat, str]) -> Spec:
    assert ground.web is not None
    assert ground.mobile is not None
    ground.edge_config.write_text(envoy.bootstrap(edge_plan(config, ground, addresses)))
    threads = EDGE_THREADS_MAX if len(ground.cores) >= CORES_FOR_TWO_EDGE_THREADS else 1
    argv = envoy_binary.command(binary, ground.edge_config, threads)
    program = Program(argv, ground.edge_environment, _log(ground, "edge"))
    both = f"{ground.web.text},{ground.mobile.text}"
    return Spec("edge", "edge", 0, both, program, UNPINNED, reports=False)


def _addresses(config: Config, ground: Ground, all_seats: Sequence[Seat]) -> dict[Seat, str]:
    """Where each one listens: gateways HOST:PORT, workers HOST:PORT or a path. Without an edge the first gateway of each kind
    takes the public address."""
    public: dict[Seat, str] = {}
    if ground.envoy is None:
        fronts = (("web", ground.web), ("mobile", ground.mobile))
        public = {Seat(role, 1, 1): at.text for role, at in fronts if at is not None}  # type: ignore[arg-type]
    sockets = {
        seat: str(ground.sockets / f"{seat.name}.sock")
        for seat in all_seats
        if seat.role == "worker" and config.link.transport == "unix"
    }
    rest = [seat for seat in all_seats if seat not in public and seat not in sockets]
    taken = frozenset(one.port for one in (ground.web, ground.mobile) if one is not None)
    ports = private_ports(len(rest), str(ground.data), taken)
    private = {seat: f"{LOOPBACK}:{port}" for seat, port in zip(rest, ports, strict=True)}
    return {seat: (public | sockets | private)[seat] for seat in all_seats}


def _worker_url(config: Config, address: str) -> str:
    return f"{'unix' if config.link.transport == 'unix' else 'tls'}:{'' if address.startswith('/') else '//'}{address}"


def _cordee(command: str) -> tuple[str, ...]:
    """-P: what lies in the working directory is not imported."""
    return (sys.executable, "-P", "-m", "cordee.cli", command)


def _log(ground: Ground, name: str) -> Path:
    return ground.data / "log" / f"{name}.log"
