"""Browser sessions of a web gateway: put together, kept fresh, and following the configuration."""

from __future__ import annotations

import asyncio
import time

from cordee.adapters.sessions import FileSessions
from cordee.compose.following import Following
from cordee.config.launch import GatewayLaunch
from cordee.config.tree import Config
from cordee.gateway.front import Front, presented_key
from cordee.gateway.sessions import BrowserSessions
from cordee.policy.session import SessionRules
from cordee.ports import People

REFRESH_S = 1.0  # a session that was ended at another gateway is refused at most this much later
LIVE = ("sessions.lifetime_s", "sessions.absolute_s", "sessions.rotate_s", "sessions.ended_per_key_max")


def open_sessions(
    config: Config, launch: GatewayLaunch, front: Front, people: People, following: Following
) -> asyncio.Task[None]:
    """The front door knows cookies from now on; the task keeps what they are checked with. Raises SessionsError."""
    store = FileSessions(launch.data, _rules(config), config.sessions.rotate_s, time.time())
    browsers = BrowserSessions(store, people, _rules(config), presented_key)
    browsers.add_to(front.paths)
    front.sessions = browsers

    def take(config: Config) -> None:
        store.follow(_rules(config), config.sessions.rotate_s)
        browsers.rules = _rules(config)

    following.follow(LIVE, lambda config: config, take)
    return asyncio.get_running_loop().create_task(_refresh(store), name="sessions")


def _rules(config: Config) -> SessionRules:
    sessions = config.sessions
    return SessionRules(sessions.lifetime_s, sessions.absolute_s, sessions.ended_per_key_max)


async def _refresh(store: FileSessions) -> None:
    while True:
        await asyncio.sleep(REFRESH_S)
        store.refresh(time.time())
