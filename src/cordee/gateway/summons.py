"""Models of which no worker is there: whoever can load them is asked as long as calls wait, and those who wait are told when it is in
vain.

The calls themselves wait in their pool's queue like any others, with their own deadlines. How the model comes about is the
loader's business; this only asks again until the pool has somebody, nobody waits any more, or the answer is no.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial

from cordee.domain.outcome import Refusal, Why
from cordee.domain.presence import Presence, Standing
from cordee.flow.pool import Pool
from cordee.gateway.withheld import without_paths
from cordee.ports import Loader

log = logging.getLogger(__name__)

ASK_S = 0.1  # how soon an answer of no is passed on
UNHEARD_S = 5.0  # after which calls no longer wait for a supervisor that does not answer
RETRY_AFTER_S = 5.0  # memory may be free by then, a file mended


class Summons:
    """`models`: which there are, and whether they are loaded on demand only."""

    def __init__(self, models: Mapping[str, bool], loader: Loader) -> None:
        self._models = models
        self._loader = loader
        self._pools: dict[str, Pool] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._said: dict[str, Standing] = {}

    def attach(self, pool: Pool) -> None:
        """From now on this pool's model is asked for when somebody waits for it, if it is one of these."""
        if pool.model in self._models:
            self._pools[pool.model] = pool
            pool.summons = partial(self._ask, pool)

    def standing(self, name: str) -> Standing | None:
        """How a model stands, as far as this gateway knows; None: it is none of these."""
        pool = self._pools.get(name)
        if pool is None:
            return None
        if pool.has_local:
            return Standing(Presence.LOADED)
        said = self._said.get(name)
        if name in self._asking or said is not None:
            return said or Standing(Presence.LOADING)
        return Standing(Presence.ABSENT if self._models[name] else Presence.LOADING)

    def cannot(self, name: str, why: str) -> None:
        """This gateway has found by itself that it cannot speak for the model; so it stands until somebody asks for it again."""
        self._said[name] = Standing(Presence.FAILED, why)

    def is_on_demand(self, name: str) -> bool:
        return self._models.get(name, False)

    def close(self) -> None:
        for task in self._asking.values():
            task.cancel()

    def _ask(self, pool: Pool) -> None:
        if pool.model not in self._asking:
            pool.seats.anew(pool.clock.now())
            task = asyncio.get_running_loop().create_task(self._fetch(pool), name=f"summon {pool.model}")
            self._asking[pool.model] = task
            task.add_done_callback(lambda _: self._asking.pop(pool.model, None))

    async def _fetch(self, pool: Pool) -> None:
        name, heard_s = pool.model, pool.clock.now()
        while pool.seats.waiting and not pool.has_local:
            try:
                said = await self._loader.load(name)
            except OSError as error:
                log.warning("nobody could be asked for model %s: %s", name, error)
                said = Standing(Presence.ABSENT)
                if pool.clock.now() - heard_s >= UNHEARD_S:
                    pool.dismiss(_refused(name, "the supervisor of this gateway does not answer"))
                    break
            else:
                heard_s = pool.clock.now()
            self._said[name] = told = Standing(said.presence, without_paths(said.why))
            if said.presence is Presence.FAILED:
                log.error("model %s cannot be had: %s", name, said.why)
                pool.dismiss(_refused(name, told.why))
                return  # what was said last stands until somebody asks again
            await asyncio.sleep(ASK_S)
        self._said.pop(name, None)


def _refused(name: str, why: str) -> Refusal:
    return Refusal(Why.NO_REPLICA, f"the model {name!r} is not loaded and cannot be now: {why}", RETRY_AFTER_S)
