"""What two settings must not say together: each rule is one fact, with the key at fault and the words for its owner."""

from __future__ import annotations

from collections.abc import Iterator

from cordee.config.tree import Config

PORT_MAX = 65_535
ANY_HOST = frozenset({"0.0.0.0", "[::]"})  # noqa: S104 - named to be compared with, nothing is bound here


def problems(config: Config) -> Iterator[tuple[str, str]]:
    """(dotted key, what is wrong and what is allowed) for each rule that does not hold."""
    yield from _addresses(config)
    if config.web.gateways_per_server + config.mobile.gateways_per_server == 0:
        yield (
            "web.gateways_per_server",
            "is 0 and mobile.gateways_per_server too: at least one of them must be 1 or more",
        )
    for low_key, low, high_key, high in _orders(config):
        if low > high:
            yield low_key, f"is {low:g}, above {high_key} = {high:g}: make it at most {high:g}, or raise {high_key}"
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
        ("breaker.open_s", breaker.open_s, "breaker.open_s_max", breaker.open_s_max),
        ("supervisor.backoff_s", supervisor.backoff_s, "supervisor.backoff_s_max", supervisor.backoff_s_max),
    )


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
