"""What is remembered of calls: answers that can be resumed, keys of repeats, receipts, and the store that gateways share."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from cordee.config.sections.base import Count, Positive, Section


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
    url: str = ""  # redis://, redis+sentinel://, redis+cluster:// (with TLS: rediss…) or unix:/PATH; "": `cordee up` starts a Valkey
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

    calls_max: Annotated[int, Meta(ge=0, le=1_000_000)] = 4096  # in the memory of one gateway
    keep_s: Positive = 3600.0  # in the store
    flush_s: Annotated[float, Meta(gt=0, le=60)] = 0.1  # how long a receipt waits to be written to the store
