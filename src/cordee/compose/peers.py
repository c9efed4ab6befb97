"""Servers reached by URL, put together from the configuration and the command line, and watched while the gateway lives."""

from __future__ import annotations

import logging
import os
from collections.abc import Coroutine
from typing import Any

from cordee.adapters.installation import installation
from cordee.adapters.upstreams import discover
from cordee.adapters.upstreams.endpoint import Endpoint
from cordee.adapters.upstreams.openai import Server
from cordee.compose.api_key import key_of
from cordee.config.launch import GatewayLaunch, is_url
from cordee.config.sections.outside import Peer
from cordee.config.tree import Config
from cordee.gateway.calls import Calls
from cordee.gateway.outside.hops import Hops
from cordee.gateway.roster import Roster

log = logging.getLogger(__name__)
UPSTREAM_KEY = "CORDEE_REPLICA_KEY"  # sent to servers given with --replica


def peers(config: Config, launch: GatewayLaunch) -> tuple[tuple[Peer, str], ...]:
    """Servers by URL with their keys: those of the configuration, then those of the command line. Raises ValueError, OSError."""
    given = tuple((Peer(url=url), os.environ.get(UPSTREAM_KEY, "")) for url in launch.replicas if is_url(url))
    return (*((peer, key_of(peer.key_env, peer.key_file, f"replica {peer.url}")) for peer in config.replica), *given)


def open_peers(config: Config, launch: GatewayLaunch, roster: Roster, calls: Calls) -> list[Coroutine[Any, Any, None]]:
    """The watches of all servers by URL, to be run while the gateway lives. Raises ValueError, OSError."""
    name = installation(launch.data)
    calls.follow(hops=Hops(name))
    return [_reach(peer, key, name, config, roster) for peer, key in peers(config, launch)]


def _reach(peer: Peer, key: str, name: str, config: Config, roster: Roster) -> Coroutine[Any, Any, None]:
    endpoint = Endpoint(peer.url, key or None, name, config.deadlines.connect_s)
    server = Server(endpoint, peer.models, peer.continues, peer.name)
    breaker = roster.breaker()
    calls_max = peer.calls_max or config.gateway.http_replica_calls_max
    told: list[str] = []

    def found(models: list[str]) -> None:
        if told:
            told.clear()
            log.info("replica %s is there again", server.id)
        roster.serves(
            server.id, models, server, breaker, calls_max=calls_max, continues=server.continues, weight=peer.weight,
            region=peer.region,
        )  # fmt: skip

    def failed(cause: str) -> None:
        if told != [cause]:
            told[:] = [cause]
            log.warning("replica %s: its models cannot be asked for: %s", server.id, cause)

    return discover.watch(server, found, failed)
