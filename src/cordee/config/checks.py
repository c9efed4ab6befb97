"""What two settings must not say together: each rule is one fact, with the key at fault and the words for its owner."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from urllib.parse import urlsplit

from cordee.config.tree import Config

PORT_MAX = 65_535
_NAME = {ord(c): None for c in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-"}
ANY_HOST = frozenset({"0.0.0.0", "[::]"})  # noqa: S104 - named to be compared with, nothing is bound here


def problems(config: Config) -> Iterator[tuple[str, str]]:
    """(dotted key, what is wrong and what is allowed) for each rule that does not hold."""
    yield from _addresses(config)
    if config.web.gateways_per_server + config.mobile.gateways_per_server == 0:
        yield (
            "web.gateways_per_server",
            "is 0 and mobile.gateways_per_server too: at least one of them must be 1 or more",
        )
    for name, model in config.models.items():
        if any(step.model == name for step in model.fallbacks):
            yield "models", f'names "{name}" as a fallback of itself: leave it out'
    for low_key, low, high_key, high in _orders(config):
        if low > high:
            yield low_key, f"is {low:g}, above {high_key} = {high:g}: make it at most {high:g}, or raise {high_key}"
    yield from _certificates(config)
    yield from _outside(config)
    if config.store.url and not config.store.url.startswith(("redis://", "rediss://", "unix:/")):
        yield "store.url", "is none of redis://HOST:PORT, rediss://HOST:PORT, unix:/PATH"
    if config.link.beat_s >= config.link.suspect_s_min:
        yield (
            "link.beat_s",
            f"is {config.link.beat_s:g}, not below link.suspect_s_min = {config.link.suspect_s_min:g}: a worker that is "
            "well would be suspected between two beats; a third of it is a good value",
        )
    if config.gateway.drain_s >= config.supervisor.stop_s:
        yield (
            "gateway.drain_s",
            f"is {config.gateway.drain_s:g}, not below supervisor.stop_s = {config.supervisor.stop_s:g}: gateways would "
            "be killed while their streams still end; lower the one or raise the other",
        )


def _orders(config: Config) -> tuple[tuple[str, float, str, float], ...]:
    """Pairs of which the first must not be above the second."""
    engine, link, breaker, supervisor = config.engine, config.link, config.breaker, config.supervisor
    return (
        ("engine.ubatch", engine.ubatch, "engine.batch", engine.batch),
        ("engine.prefill_tokens_max", engine.prefill_tokens_max, "engine.batch", engine.batch),
        ("link.beat_s", link.beat_s, "link.idle_beat_s", link.idle_beat_s),
        ("sessions.lifetime_s", config.sessions.lifetime_s, "sessions.absolute_s", config.sessions.absolute_s),
        *(
            (
                f"overflow.{name}_normal{unit}",
                getattr(config.overflow, f"{name}_normal{unit}"),
                f"overflow.{name}_alert{unit}",
                getattr(config.overflow, f"{name}_alert{unit}"),
            )
            for name, unit in (("cpu", ""), ("memory", ""), ("gpu", ""), ("response", "_s"), ("errors", ""))
        ),
        ("retry.rest_s", config.retry.rest_s, "retry.rest_s_max", config.retry.rest_s_max),
        *_steps(config),
        ("breaker.open_s", breaker.open_s, "breaker.open_s_max", breaker.open_s_max),
        ("breaker.calls_min", breaker.calls_min, "breaker.attempts_min", breaker.attempts_min),
        ("breaker.tenants_min", breaker.tenants_min, "breaker.calls_min", breaker.calls_min),
        ("supervisor.backoff_s", supervisor.backoff_s, "supervisor.backoff_s_max", supervisor.backoff_s_max),
        ("canary.timeout_s", config.canary.timeout_s, "canary.dead_s", config.canary.dead_s),
    )


def _outside(config: Config) -> Iterator[tuple[str, str]]:
    """Servers by URL and providers."""
    for key, entries in (("replica", config.replica), ("cloud", config.cloud)):
        names = [entry.name for entry in entries if entry.name]
        for entry in entries:
            name = f"{key} {entry.name!r}"
            if entry.name and entry.name.translate(_NAME):
                yield key, f"has {name}: a name is of letters, digits, '.', '_', ':' and '-'"
            if names.count(entry.name) > 1:
                yield key, f"has two of the name {entry.name!r}: give each its own"
            if entry.key_env and entry.key_file:
                yield key, f"has {name} with key_env and key_file: the key stands in one of them"
    for peer in config.replica:
        yield from _url("replica", f"url {peer.url!r}", peer.url)
    for cloud in config.cloud:
        if not cloud.models:
            yield (
                "cloud",
                f'has {cloud.name!r} without models: say which of ours it has, as models = {{our-name = "its-name"}}',
            )
        if cloud.base_url:
            yield from _url("cloud", f"base_url {cloud.base_url!r}", cloud.base_url)
        elif cloud.provider == "openai":
            yield "cloud", f'has {cloud.name!r} without base_url: only provider = "alibaba" has one of its own'
        if cloud.price_in + cloud.price_out > 0 and config.overflow.spend_per_day == 0:
            yield (
                "overflow.spend_per_day",
                f"is 0, but cloud {cloud.name!r} costs money: say how much may be spent in a day",
            )


def _url(key: str, what: str, url: str) -> Iterator[tuple[str, str]]:
    try:
        parts = urlsplit(url)
        usable = (
            parts.scheme in ("http", "https")
            and parts.hostname
            and not (parts.username or parts.query or parts.fragment)
        )
        usable = usable and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        yield (
            key,
            f"has {what}: it must be of the form http://HOST:PORT or https://HOST/PATH, without a user or a query",
        )


def _certificates(config: Config) -> Iterator[tuple[str, str]]:
    tls = config.edge.tls
    if bool(tls.certificate) != bool(tls.key):
        given, missing = ("certificate", "key") if tls.certificate else ("key", "certificate")
        yield (
            f"edge.tls.{given}",
            f"is given without edge.tls.{missing}: set both, or none of them for a certificate of the own authority",
        )
    if tls.enabled and not tls.certificate and not tls.names:
        yield (
            "edge.tls.names",
            "is empty: a certificate needs the names clients connect to, or set edge.tls.certificate",
        )


def _steps(config: Config) -> Iterator[tuple[str, float, str, float]]:
    """Each step of degradation comes before the next one."""
    names = ("hedging_off_s", "batch_held_s", "capped_s", "cache_only_s", "refuse_s")
    for lower, higher in pairwise(names):
        yield f"degrade.{lower}", getattr(config.degrade, lower), f"degrade.{higher}", getattr(config.degrade, higher)


def _addresses(config: Config) -> Iterator[tuple[str, str]]:
    for key, address in (("web.address", config.web.address), ("mobile.address", config.mobile.address)):
        port = int(address.rpartition(":")[2])
        if not 1 <= port <= PORT_MAX:
            yield key, f'is "{address}": the port must be from 1 to {PORT_MAX}'
    web_host, _, web_port = config.web.address.rpartition(":")
    mobile_host, _, mobile_port = config.mobile.address.rpartition(":")
    meet = web_host == mobile_host or not ANY_HOST.isdisjoint({web_host, mobile_host})
    if int(web_port) == int(mobile_port) and meet:
        yield (
            "mobile.address",
            f'is "{config.mobile.address}", which meets web.address = "{config.web.address}": '
            "the two kinds of clients need an address each; choose another port for one of them",
        )
