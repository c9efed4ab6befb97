"""What two settings must not say together: each rule is one fact, with the key at fault and the words for its owner."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from urllib.parse import urlsplit

from cordee.config.sections.models import Serve
from cordee.config.tree import Config
from cordee.policy.silence import SILENT_S

PORT_MAX = 65_535
STORE_URLS = (
    *("redis://", "rediss://", "unix:/"),
    *("redis+sentinel://", "rediss+sentinel://", "redis+cluster://", "rediss+cluster://"),
)
NO_MODEL = Serve(model="-")  # what a model has that says nothing
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
    yield from _events(config)
    yield from _outside(config)
    yield from _served(config)
    if config.store.url and not config.store.url.startswith(STORE_URLS):
        yield "store.url", f"begins with none of {', '.join(STORE_URLS)}"
    for name in ("accounts", "chats", "files", "batches", "webhooks"):
        outbox = getattr(config.services, name).outbox
        if outbox.publish_s >= outbox.lease_s:
            yield (
                f"services.{name}.outbox.publish_s",
                f"is {outbox.publish_s:g}, not below services.{name}.outbox.lease_s = {outbox.lease_s:g}: no event would be begun that "
                "might outlast the lease, so none would ever leave; a third of it is a good value",
            )
    if config.link.beat_s >= config.link.suspect_s_min:
        yield (
            "link.beat_s",
            f"is {config.link.beat_s:g}, not below link.suspect_s_min = {config.link.suspect_s_min:g}: a worker that is "
            "well would be suspected between two beats; a third of it is a good value",
        )
    if 0 < config.supervisor.silent_s <= SILENT_S:
        yield (
            "supervisor.silent_s",
            f"is {config.supervisor.silent_s:g}, within the {SILENT_S:g} s for which a busy process may say nothing: make it more, "
            "or 0 for never",
        )
    if 0 < config.engine.stretch_max <= 1:
        yield (
            "engine.stretch_max",
            f"is {config.engine.stretch_max:g}: a step with prompt tokens takes longer than one without; set it above 1, or to 0 for "
            "no such bound",
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
        (
            "engine.prefill_tokens_min",
            engine.prefill_tokens_min,
            "engine.prefill_tokens_max",
            engine.prefill_tokens_max,
        ),
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


def _served(config: Config) -> Iterator[tuple[str, str]]:
    """Models beside the first one. Those that two names stand for are compared where the names are known: compose.checked."""
    names = [config.model, *(entry.name or entry.model for entry in config.serve)]
    for entry in config.serve:
        name = entry.name or entry.model
        if names.count(name) > 1:
            yield "serve", f"has {name!r} more than once, the setting model included: give each a name of its own"
        if entry.name and (":" in entry.name or entry.name != entry.name.strip()):
            yield (
                "serve",
                f"has the name {entry.name!r}: a name has no ':', which stands before that of an adapter, and no blanks around it",
            )
        if entry.servers > config.servers:
            yield "serve", f"has {name!r} on {entry.servers} servers, of which there are {config.servers} (servers)"
        yield from _guest(name, entry)
        batch, ubatch = entry.batch or config.engine.batch, entry.ubatch or config.engine.ubatch
        for key, value in (("ubatch", ubatch), ("prefill_tokens_max", config.engine.prefill_tokens_max)):
            if value > batch:
                yield "serve", f"has {name!r} with {key} = {value}, above its batch = {batch}: make batch at least that"


def _guest(name: str, entry: Serve) -> Iterator[tuple[str, str]]:
    """What holds for servers of other makes only, or not for them."""
    of_guests = ("command", "gpus", "tensor_parallel", "data_parallel", "dtype", "memory_share", "arguments")
    of_ours = ("threads", "batch", "ubatch", "weights")
    given = [
        key
        for key in (of_guests if entry.kind == "llama" else of_ours)
        if getattr(entry, key) != getattr(NO_MODEL, key)
    ]
    if given:
        yield (
            "serve",
            f'has {name!r} of kind = "{entry.kind}" with {", ".join(given)}, which it does not know: leave that out',
        )
    if entry.kind != "llama" and entry.load == "demand":
        yield (
            "serve",
            f'has {name!r} of kind = "{entry.kind}" with load = "demand": such a server takes longer to load than calls wait',
        )
    if len(set(entry.gpus)) < len(entry.gpus):
        yield "serve", f"has {name!r} with gpus = {list(entry.gpus)}: name each GPU once"


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


def _events(config: Config) -> Iterator[tuple[str, str]]:
    events, tls = config.services.events, config.services.events.tls
    if bool(tls.certificate) != bool(tls.key):
        given, missing = ("certificate", "key") if tls.certificate else ("key", "certificate")
        yield (
            f"services.events.tls.{given}",
            f"is given without services.events.tls.{missing}: set both, or none of them",
        )
    said = "ca" if tls.ca else "certificate" if tls.certificate else ""
    if said and not urlsplit(events.url).scheme.endswith("s"):
        yield (
            f"services.events.tls.{said}",
            "is given, and services.events.url names no broker behind TLS: begin it with amqps://, kafkas://, rediss:// or valkeys://",
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
