"""Every setting there is, with its unit, its default and what is allowed: the whole tree, whose tables are in `sections/`.

Units stand last in the name: `_s` seconds, `_bytes`, `_max`. An unknown key is an error, never ignored. `cordee config show`
prints this tree, in this order, and docs/configuration.md lists it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from cordee.config.sections.attempts import Deadlines, Hedge, ModelSettings, Quarantine, Retry
from cordee.config.sections.base import Section
from cordee.config.sections.entrances import Edge, Entry, Gateway, Grpc, Realtime, Sessions
from cordee.config.sections.kept import Idempotency, Receipts, Store, Streams
from cordee.config.sections.models import Adapter, Guests, Serve
from cordee.config.sections.outside import Cloud, Overflow, Peer
from cordee.config.sections.overload import Degrade, Limits, Queue
from cordee.config.sections.processes import Engine, Link, Oracle, Supervisor, Worker
from cordee.config.sections.routing import Breaker, Canary, Outlier, PoolSettings, ReplicaSettings, Routing
from cordee.config.sections.services import Services
from cordee.config.sections.structured import Grammars


class Config(Section, frozen=True):
    """The whole tree."""

    servers: Annotated[int, Meta(ge=1, le=64)] = 2  # failure domains, each with gateways and workers of its own
    model: Annotated[str, Meta(min_length=1, max_length=4096)] = (
        "smollm2-135m-instruct"  # of `cordee models list`, a .gguf file, hf:OWNER/REPO/FILE, or "oracle"
    )
    web: Entry = Entry(address="127.0.0.1:8000")
    mobile: Entry = Entry(address="127.0.0.1:8100")
    edge: Edge = Edge()
    serve: tuple[Serve, ...] = ()  # further models, see docs/models.md
    adapters: dict[
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")], Adapter
    ] = {}  # LoRA, by the name that clients say behind MODEL:
    guests: Guests = Guests()
    worker: Worker = Worker()
    engine: Engine = Engine()
    oracle: Oracle = Oracle()
    gateway: Gateway = Gateway()
    sessions: Sessions = Sessions()
    realtime: Realtime = Realtime()
    grpc: Grpc = Grpc()
    deadlines: Deadlines = Deadlines()
    queue: Queue = Queue()
    limits: Limits = Limits()
    grammars: Grammars = Grammars()
    degrade: Degrade = Degrade()
    retry: Retry = Retry()
    hedge: Hedge = Hedge()
    quarantine: Quarantine = Quarantine()
    models: dict[Annotated[str, Meta(min_length=1, max_length=256)], ModelSettings] = {}
    breaker: Breaker = Breaker()
    routing: Routing = Routing()
    outlier: Outlier = Outlier()
    pools: dict[Annotated[str, Meta(min_length=1, max_length=256)], PoolSettings] = {}
    replicas: dict[Annotated[str, Meta(min_length=1, max_length=256)], ReplicaSettings] = {}
    link: Link = Link()
    streams: Streams = Streams()
    store: Store = Store()
    idempotency: Idempotency = Idempotency()
    receipts: Receipts = Receipts()
    canary: Canary = Canary()
    supervisor: Supervisor = Supervisor()
    services: Services = Services()
    overflow: Overflow = Overflow()
    replica: tuple[Peer, ...] = ()
    cloud: tuple[Cloud, ...] = ()
    log_level: Literal["debug", "info", "warning", "error"] = "info"
