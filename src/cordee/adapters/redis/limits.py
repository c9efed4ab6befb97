"""Port Limits in the shared store. Each limit is one key, so it works in a cluster, and each lease is one step of a script, so no
two gateways are given the same units. Buckets fill by the store's own clock: those of the gateways do not matter.

| key | type | holds |
|---|---|---|
| `cordee:limit:{NAME}` of a bucket | hash | `level`, and `at` in microseconds |
| … of a window | string | units used in this period; the period is part of the name |
| … of what is held | hash | by gateway: how many, and until when in milliseconds |
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from cordee.adapters.redis.store import Store
from cordee.policy.lease import Ask, Grant, Kind
from cordee.ports import AwayError

BUCKET = b"""
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local amount, rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2]) / 60, tonumber(ARGV[3])
local kept = redis.call('HMGET', KEYS[1], 'level', 'at')
local level, at = tonumber(kept[1] or burst), tonumber(kept[2] or now)
level = math.min(burst, level + math.max(0, now - at) / 1000000 * rate)
local granted = math.min(amount, math.max(0, math.floor(level)))
level = math.min(burst, level - granted)
redis.call('HSET', KEYS[1], 'level', string.format('%.6f', level), 'at', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
local retry = 0
if level < 1 then retry = math.ceil((1 - level) / rate * 1000) end
return {granted, math.floor(level), retry}
"""
WINDOW = b"""
local amount, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local used = tonumber(redis.call('GET', KEYS[1]) or 0)
local granted = math.min(amount, math.max(0, limit - used))
used = math.max(0, used + granted)
redis.call('SET', KEYS[1], string.format('%.0f', used), 'PX', ARGV[4])
return {granted, math.max(0, limit - used), 0}
"""
HELD = b"""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local wanted, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local kept, others = redis.call('HGETALL', KEYS[1]), 0
for i = 1, #kept, 2 do
  local count, till = string.match(kept[i + 1], '^(%d+) (%d+)$')
  if kept[i] ~= ARGV[5] then
    if tonumber(till) > now then others = others + count else redis.call('HDEL', KEYS[1], kept[i]) end
  end
end
local granted = math.min(wanted, math.max(0, limit - others))
if granted > 0 then
  redis.call('HSET', KEYS[1], ARGV[5], string.format('%.0f %.0f', granted, now + ARGV[4]))
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
else
  redis.call('HDEL', KEYS[1], ARGV[5])
end
return {granted, math.max(0, limit - others - granted), 0}
"""
SCRIPTS = {Kind.BUCKET: BUCKET, Kind.WINDOW: WINDOW, Kind.HELD: HELD}


class RedisLimits:
    """Port Limits."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def lease(self, holder: str, asks: Sequence[Ask]) -> list[Grant]:
        """Raises AwayError."""
        replies = await asyncio.gather(*(self._run(holder, ask) for ask in asks), return_exceptions=True)
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
        return [_grant(ask, reply) for ask, reply in zip(asks, replies, strict=True)]

    async def _run(self, holder: str, ask: Ask) -> Any:
        # Names hold what operators call their tenants: they may be long, and hold anything.
        name = f"cordee:limit:{{{sha256(ask.name.encode()).hexdigest()[:32]}}}:{ask.kind.value}".encode()
        expires_ms = max(1, int(ask.expires_s * 1000))
        return await self._store.run(
            b"EVAL", SCRIPTS[ask.kind], 1, name, ask.amount, ask.limit, ask.burst, expires_ms, holder.encode()
        )


def _grant(ask: Ask, reply: Any) -> Grant:
    """A store that lies grants no more than was asked for."""
    if not isinstance(reply, list) or len(reply) != REPLY_FIELDS or not all(isinstance(one, int) for one in reply):
        raise AwayError("the store replied to a lease with something else")
    granted, remaining, retry_ms = reply
    if granted > ask.amount or (ask.amount >= 0 and granted < 0):
        raise AwayError(f"the store granted {granted} of {ask.amount} units")
    return Grant(granted, max(0, remaining), max(0, retry_ms) / 1000)


REPLY_FIELDS = 3
