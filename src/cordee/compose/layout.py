"""From the configuration to the processes of this host: their names, addresses, processors and command lines.

A pure function of the configuration and of the ground it stands on, but for the choice of free ports.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cordee.adapters import envoy, envoy_binary, valkey
from cordee.adapters.processes import Program
from cordee.compose.serving import Served, served, servers_of, worker_name
from cordee.config.launch import GUEST
from cordee.config.tree import Config
from cordee.supervisor.addresses import LOOPBACK, Resolved, private_ports
from cordee.supervisor.placement import place
from cordee.supervisor.watched import Spec

RESERVED_DESCRIPTORS = 256  # of the edge: listeners, health checks, logs, its own files
DESCRIPTORS_PER_CALL = 2  # one to the client, one to the gateway
EDGE_THREADS_MAX = 2
CORES_FOR_TWO_EDGE_THREADS = 4
UNPINNED = "any"


Process = Literal["worker", "web", "mobile", "services"]
GATEWAYS = ("web", "mobile")


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
    guest_environment: Mapping[str, str] = field(default_factory=dict)  # what guests get beside the others'
    services_environment: Mapping[str, str] = field(default_factory=dict)  # all that services get
    valkey: Path | None = None  # the server to run as the store; None: none of its own

    @property
    def run(self) -> Path:
        return self.data / "run"

    @property
    def store_socket(self) -> Path:
        return self.sockets / "store.sock"

    @property
    def store_url(self) -> str:
        """Where gateways find the store of this installation, "" where it has none of its own."""
        return f"unix:{self.store_socket}" if self.valkey is not None else ""

    @property
    def edge_admin(self) -> Path:
        return self.sockets / "edge-admin.sock"

    @property
    def edge_config(self) -> Path:
        return self.run / "edge.json"

    @property
    def edge_secret(self) -> Path:
        """Certificate and key, as the edge follows them."""
        return self.run / "edge-secret.json"


@dataclass(frozen=True, slots=True)
class Seat:
    """A process before it has an address: who it is. `served`: what a worker serves, None for the first model."""

    role: Process
    server: int
    number: int  # of its role within the server, from 1
    served: Served | None = None

    @property
    def is_guest(self) -> bool:
        return self.served is not None and self.served.is_guest

    @property
    def name(self) -> str:
        if self.role == "worker":
            return worker_name(self.server, self.number, self.served.slug if self.served is not None else "")
        return f"{self.role}-{self.server}" + (f"-{self.number}" if self.number > 1 else "")


def seats(config: Config) -> list[Seat]:
    """Everybody but the edge; workers first, then each kind of gateway, so that equals lie on different processors; then the services.
    Raises ModelError for a model that is none."""

    def each(role: Process, count: int) -> Iterator[Seat]:
        for number in range(1, count + 1):
            yield from (Seat(role, server, number) for server in range(1, config.servers + 1))

    return [
        *each("worker", config.worker.per_server),
        *(
            Seat("worker", server, number, one)
            for one in served(config)
            for number in range(1, one.entry.per_server + 1)
            for server in range(1, servers_of(config, one.entry) + 1)
        ),
        *each("web", config.web.gateways_per_server),
        *each("mobile", config.mobile.gateways_per_server),
        *(each("services", config.services.per_server) if config.services.enabled else ()),
    ]


def lay_out(config: Config, ground: Ground) -> tuple[Spec, ...]:
    """The processes, and the edge's configuration where there is one. Raises AddressError when ports run out."""
    all_seats = seats(config)
    addresses = _addresses(config, ground, all_seats)
    replicas = [_worker_url(config, seat, address) for seat, address in addresses.items() if seat.role == "worker"]
    grpc = grpc_addresses(config, ground, addresses)
    gateways = sum(seat.role in GATEWAYS for seat in all_seats)
    specs = []
    # A guest has threads for many processors, and mostly waits for its GPU; services mostly wait for their databases: the kernel
    # places them.
    pinned = [seat for seat in all_seats if not seat.is_guest and seat.role != "services"]
    places = dict(zip(pinned, place([seat.role == "worker" for seat in pinned], ground.cores), strict=True))
    for seat in all_seats:
        address = addresses[seat]
        if seat.role == "services":
            specs.append(_services(ground, seat, addresses))
            continue
        listen = _worker_url(config, seat, address) if seat.role == "worker" else address
        argv = (
            *_cordee("worker" if seat.role == "worker" else "gateway"),
            *("--listen", listen, "--name", seat.name, "--server", str(seat.server)),
            *("--data", str(ground.data), "--config", str(ground.config_file)),
            *(("--model", ground.model) if seat.served is None else ("--serves", seat.served.name)),
        )
        if seat.role != "worker":
            argv += ("--kind", seat.role, "--gateways", str(gateways))
            argv += ("--grpc", grpc[seat]) if seat in grpc else ()
            argv += ("--store", ground.store_url) if ground.store_url else ()
            argv += tuple(word for url in replicas for word in ("--replica", url))
            argv += tuple(word for url in _services_of(seat.server, addresses) for word in ("--services", url))
        processor = places.get(seat)
        environment = {**ground.environment, **ground.guest_environment} if seat.is_guest else ground.environment
        program = Program(argv, environment, _log(ground, seat.name), processor.cores if processor else None)
        model = ground.model_name if seat.served is None else seat.served.name
        essential = seat.served is None
        specs.append(
            Spec(
                seat.name,
                seat.role,
                seat.server,
                listen,
                program,
                str(processor or UNPINNED),
                model,
                is_essential=essential,
            )
        )
    if ground.valkey is not None:
        specs.append(_store(config, ground, ground.valkey))
    if ground.envoy is not None:
        specs.append(_edge(config, ground, ground.envoy, addresses, grpc))
    return tuple(specs)


def edge_plan(config: Config, ground: Ground, gateways: Mapping[Seat, str], grpc: Mapping[Seat, str]) -> envoy.EdgePlan:
    """What the edge is to do. The addresses of `gateways` are HOST:PORT, and so are those where they speak gRPC."""
    assert ground.web is not None
    assert ground.mobile is not None

    def of(role: str) -> tuple[envoy.Address, ...]:
        return tuple(_address(address) for seat, address in gateways.items() if seat.role == role)

    affordable = max(1, (ground.descriptors_max - RESERVED_DESCRIPTORS) // DESCRIPTORS_PER_CALL)
    return envoy.EdgePlan(
        web=envoy.Address(ground.web.host, ground.web.port),
        mobile=envoy.Address(ground.mobile.host, ground.mobile.port),
        web_gateways=of("web"),
        mobile_gateways=of("mobile"),
        grpc_gateways=tuple(_address(address) for address in grpc.values()),
        admin=ground.edge_admin,
        health_interval_s=config.edge.health_interval_s,
        connections_max=min(config.edge.connections_max, affordable),
        header_bytes_max=config.gateway.header_bytes_max,
        header_timeout_s=config.gateway.header_timeout_s,
        body_timeout_s=config.gateway.body_timeout_s,
        idle_timeout_s=config.gateway.idle_timeout_s,
        call_s_max=config.deadlines.total_s,
        secret=ground.edge_secret if config.edge.tls.enabled else None,
        http3=config.edge.http3,
        compression=config.edge.compression,
    )


def _address(text: str) -> envoy.Address:
    host, _, port = text.rpartition(":")
    return envoy.Address(host, int(port))


def _store(config: Config, ground: Ground, binary: Path) -> Spec:
    directory = ground.data / "store"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    argv = valkey.command(binary, ground.store_socket, directory, config.store.bytes_max)
    program = Program(argv, ground.edge_environment, _log(ground, "store"))
    return Spec("store", "store", 0, ground.store_url, program, UNPINNED, reports=False)


def _services(ground: Ground, seat: Seat, addresses: Mapping[Seat, str]) -> Spec:
    """They ask gateways for models: those of their own server first, web before mobile."""
    gateways = sorted((one for one in addresses if one.role in GATEWAYS), key=lambda one: one.server != seat.server)
    listen = f"unix:{addresses[seat]}"
    argv = (
        *_cordee("services"),
        *("--listen", listen, "--name", seat.name, "--server", str(seat.server)),
        *("--data", str(ground.data), "--config", str(ground.config_file)),
        *(word for one in gateways for word in ("--gateway", _inside(ground, addresses[one]))),
    )
    program = Program(argv, ground.services_environment, _log(ground, seat.name))
    return Spec(seat.name, "services", seat.server, listen, program, UNPINNED, is_essential=False)


def _services_of(server: int, addresses: Mapping[Seat, str]) -> list[str]:
    """Where the services are, for a gateway of `server`: its own first."""
    found = sorted((one for one in addresses if one.role == "services"), key=lambda one: one.server != server)
    return [f"unix:{addresses[one]}" for one in found]


def _inside(ground: Ground, address: str) -> str:
    """A gateway's address as this host reaches it: without an edge it may listen on all addresses."""
    for public in (ground.web, ground.mobile):
        if public is not None and public.text == address:
            return public.reachable.text
    return address


def _edge(
    config: Config, ground: Ground, binary: Path, addresses: Mapping[Seat, str], grpc: Mapping[Seat, str]
) -> Spec:
    assert ground.web is not None
    assert ground.mobile is not None
    ground.edge_config.write_text(envoy.bootstrap(edge_plan(config, ground, addresses, grpc)))
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
        if seat.role == "services" or (seat.role == "worker" and (config.link.transport == "unix" or seat.is_guest))
    }
    rest = [seat for seat in all_seats if seat not in public and seat not in sockets]
    taken = frozenset(one.port for one in (ground.web, ground.mobile) if one is not None)
    ports = private_ports(len(rest), str(ground.data), taken)
    private = {seat: f"{LOOPBACK}:{port}" for seat, port in zip(rest, ports, strict=True)}
    return {seat: (public | sockets | private)[seat] for seat in all_seats}


def grpc_addresses(config: Config, ground: Ground, addresses: Mapping[Seat, str]) -> dict[Seat, str]:
    """Where the mobile gateways speak gRPC: HOST:PORT, private beside the `addresses` there are already."""
    mobile = [seat for seat in addresses if seat.role == "mobile"] if config.grpc.enabled else []
    known = {address.rpartition(":")[2] for address in addresses.values() if not address.startswith("/")}
    public = (one.port for one in (ground.web, ground.mobile) if one is not None)
    ports = private_ports(len(mobile), str(ground.data), frozenset(map(int, known)).union(public))
    return {seat: f"{LOOPBACK}:{port}" for seat, port in zip(mobile, ports, strict=True)}


def _worker_url(config: Config, seat: Seat, address: str) -> str:
    if seat.is_guest:
        return GUEST + address
    return f"{'unix' if config.link.transport == 'unix' else 'tls'}:{'' if address.startswith('/') else '//'}{address}"


def _cordee(command: str) -> tuple[str, ...]:
    """-P: what lies in the working directory is not imported."""
    return (sys.executable, "-P", "-m", "cordee.cli", command)


def _log(ground: Ground, name: str) -> Path:
    return ground.data / "log" / f"{name}.log"
