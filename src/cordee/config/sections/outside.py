"""Servers that are not ours: replicas by URL, providers that take what finds no room, and when. See docs/cloud.md."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from cordee.config.sections.base import Count, Positive, Section
from cordee.config.sections.routing import Breaker


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
