"""From a gateway to the guests of its installation: it hears each one's minder and reaches the server where that says it stands."""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from typing import Any

from cordee.adapters.guests.word import Word, hear
from cordee.adapters.installation import installation
from cordee.adapters.upstreams.dialect import Dialect
from cordee.adapters.upstreams.endpoint import Endpoint
from cordee.adapters.upstreams.openai import Server
from cordee.config.launch import GUEST, GatewayLaunch
from cordee.config.tree import Config
from cordee.domain.replica import Capacity, Load
from cordee.gateway.guest_seat import Guest, GuestSeat, Way
from cordee.gateway.roster import Roster

DIALECTS = {"vllm": Dialect.VLLM, "sglang": Dialect.SGLANG}


def hear_guests(config: Config, launch: GatewayLaunch, roster: Roster) -> list[Coroutine[Any, Any, None]]:
    """To be run while the gateway lives."""
    name = installation(launch.data)
    return [
        _hear(replica.removeprefix(GUEST), name, config, roster)
        for replica in launch.replicas
        if replica.startswith(GUEST)
    ]


def _hear(path: str, installation: str, config: Config, roster: Roster) -> Coroutine[Any, Any, None]:
    seat = GuestSeat(roster)

    def told(word: Word) -> None:
        seat.told(guest(word), partial(_reach, word, installation, config.deadlines.connect_s))

    return hear(path, told, seat.lost)


def guest(word: Word) -> Guest:
    """The same in the gateway's terms."""
    load = Load(
        word.running, word.waiting, word.tokens, cpu=word.cpu, memory=word.memory, gpu=word.gpu, steps=word.steps
    )
    capacity = Capacity(word.sequences_max, word.tokens_max)
    return Guest(word.name, word.model, word.life, word.is_ready, capacity, load, word.gpus)


def _reach(word: Word, installation: str, connect_s: float) -> Way:
    endpoint = Endpoint(word.url, word.key, installation, connect_s)
    server = Server(endpoint, name=word.name)
    server.found(DIALECTS[word.kind])
    return Way(server, server.continues, endpoint.close)
