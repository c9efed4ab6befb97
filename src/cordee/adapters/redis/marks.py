"""Port Marks in the store: one sorted set of fingerprints by the time at which they are forgotten."""

from __future__ import annotations

import time
from collections.abc import Sequence

from cordee.adapters.redis.store import Store

KEY = b"cordee:quarantine"


class StoreMarks:
    """At most `entries_max` are kept, those that last longest. Times are of the wall clock: gateways that disagree on it by a
    second forget a second apart."""

    def __init__(self, store: Store, entries_max: int) -> None:
        self._store = store
        self._entries_max = entries_max

    async def tell(self, mark: bytes, for_s: float) -> None:
        run = self._store.run
        await self._store.both(
            run(b"ZADD", KEY, b"GT", b"%f" % (time.time() + for_s), mark),
            run(b"ZREMRANGEBYRANK", KEY, b"0", b"%d" % -(self._entries_max + 1)),
        )
        await run(b"PEXPIRE", KEY, b"%d" % int(for_s * 1000))  # all are kept for as long: the newest goes last

    async def told(self) -> Sequence[tuple[bytes, float]]:
        run, now = self._store.run, time.time()
        reply = await run(b"ZRANGE", KEY, b"%f" % now, b"+inf", b"BYSCORE", b"WITHSCORES")
        if isinstance(reply, dict):
            return [(mark, float(until_s) - now) for mark, until_s in reply.items()]
        pairs = (
            reply if reply and isinstance(reply[0], list | tuple) else list(zip(reply[::2], reply[1::2], strict=True))
        )
        return [(mark, float(until_s) - now) for mark, until_s in pairs]
