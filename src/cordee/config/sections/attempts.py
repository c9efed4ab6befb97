"""How long a call may take, how often it is tried, and who is asked in another one's place. See docs/attempts.md."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from cordee.config.sections.base import Count, Positive, Section, Share


class Deadlines(Section, frozen=True):
    """How long a call may take unless it says otherwise (headers X-Request-Timeout, for the total, X-Cordee-First-Token-Timeout
    and X-Cordee-Between-Tokens-Timeout), and after which silence one attempt is given up while the call goes on elsewhere."""

    total_s: Positive = 600.0  # for the whole answer
    first_token_s: Positive = 120.0  # for the first token
    between_tokens_s: Positive = 60.0  # for each next one
    connect_s: Annotated[float, Meta(gt=0, le=60)] = 5.0  # to a server reached by URL
    attempt_first_token_s: Annotated[float, Meta(ge=0, le=86_400)] = (
        0.0  # 0: an attempt may be silent as long as its call
    )
    attempt_between_tokens_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0  # 0: likewise


class Retry(Section, frozen=True):
    """Attempts before the first token, and takeovers after it."""

    attempts_max: Count = 3  # of a call, before anything has left for the client
    continuations_max: Count = 8  # of a call, after it
    budget_ratio: Share = 0.1  # retries that a call earns for all
    budget_per_s: Annotated[float, Meta(ge=0, le=10_000)] = 10.0  # retries there are anyway
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


Mark = Annotated[str, Meta(min_length=1, max_length=64)]
Reasoning = Literal["auto", "off"] | Annotated[tuple[Mark, ...], Meta(min_length=2, max_length=2)]


class ModelSettings(Section, frozen=True):
    """What one model can do, how it is spoken to, and who answers in its place."""

    fallbacks: Annotated[tuple[Fallback, ...], Meta(max_length=16)] = ()
    continues: bool = True  # an assistant turn that has begun
    tools: bool = True
    schema: bool = True  # answers of a given JSON schema
    context: Annotated[int, Meta(ge=0, le=100_000_000)] = 0  # tokens; 0: as much as it says itself, or unknown
    # Of models of our own workers only: see docs/tools.md.
    chat_template: Annotated[str, Meta(max_length=4096)] = ""  # a file of Jinja; "": the model's own
    reasoning: Reasoning = "auto"  # auto: between the marks that its template has; or between these two
