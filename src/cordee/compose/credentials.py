"""Who a gateway knows: the key file, and accounts where there are services; who asks on behalf of whom; and what ends when they go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from cordee.adapters.credentials import Credentials
from cordee.adapters.credentials_feed import FeedRules, Follower
from cordee.adapters.internal_secret import internal_secret
from cordee.adapters.keys import FileDirectory
from cordee.config.launch import GatewayLaunch
from cordee.config.tree import Config
from cordee.flow.watch import Watch
from cordee.gateway.front import Front
from cordee.gateway.metrics import Metrics
from cordee.gateway.on_behalf import OnBehalf
from cordee.gateway.revocation import Revocations

_log = logging.getLogger(__name__)
REFRESH_S = 1.0  # a revoked key is refused at most this much later


@dataclass(frozen=True, slots=True)
class Identities:
    """`follow` runs beside everything where there are services."""

    credentials: Credentials
    revocations: Revocations
    follow: Callable[[], Coroutine[Any, Any, None]] | None

    async def refresh(self, front: Front) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                somebody_may_have_gone = self.credentials.refresh()
                front.forget_keys()
                self.revocations.look(somebody_may_have_gone=somebody_may_have_gone)
            except Exception as error:
                # Whatever it is, revoked keys that nobody refuses any more are worse than one more try.
                _log.error("who may ask could not be looked at anew", exc_info=error)


def open_credentials(config: Config, launch: GatewayLaunch) -> Credentials:
    """Raises KeysError."""
    feed = config.services.accounts.feed
    return Credentials(FileDirectory(launch.data), feed.tokens_max, ended_max=feed.ended_max)


def open_identities(
    config: Config, launch: GatewayLaunch, credentials: Credentials, watch: Watch, front: Front, metrics: Metrics
) -> Identities:
    """The front door takes what services ask from now on. Raises SecretError, OSError."""
    revocations = Revocations(credentials, watch, asyncio.get_running_loop().time)
    if not launch.services:
        return Identities(credentials, revocations, None)
    secret, feed = internal_secret(launch.data), config.services.accounts.feed
    rules = FeedRules(feed.wait_s, feed.answer_s, feed.retry_s, feed.page_bytes_max)
    follower = Follower(credentials, launch.services, secret, launch.data, rules)
    follower.remember()
    metrics.more.append(follower.metrics)
    front.on_behalf = OnBehalf(credentials, secret)
    return Identities(credentials, revocations, follower.run)
