"""Models that this gateway tokenises for but whose vocabulary it has not read yet: read when it is first needed, beside the event loop.

A vocabulary costs tens of megabytes and some tenths of a second, so a gateway reads none that nobody asks for. A request that comes
first waits here, and comes in again by the same way when the vocabulary is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cordee.domain.outcome import Why
from cordee.gateway.prepare import Model
from cordee.gateway.withheld import without_paths
from cordee.wire.errors import Invalid

log = logging.getLogger(__name__)

UNREAD = -1  # the size of a vocabulary that is still to be read


@dataclass(frozen=True, slots=True)
class Opened:
    """A model that can be spoken for; `context`: tokens of prompt and answer, as its workers will be set up."""

    model: Model
    context: int


@dataclass(frozen=True, slots=True)
class Opener:
    """How to read one: `open` runs in a thread and raises OSError or ValueError. `is_eager`: read when a worker of it comes up, before
    anybody asks."""

    open: Callable[[], Opened]
    is_eager: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that comes in again, or gets the refusal that is the reason why not."""

    again: Callable[[], None]
    refused: Callable[[Invalid], None]


class Openings:
    """`models` and `contexts` are those of the gateway, which an opened one is added to; `sizes` are the vocabularies' that workers say.
    `is_awaited`: calls may be made before any worker is there. At most `waiting_max` requests wait. `on_fault`: who else is told of a model
    that cannot be read, and why."""

    def __init__(
        self, openers: Mapping[str, Opener], models: dict[str, Model], contexts: dict[str, int], sizes: Mapping[str, int],
        waiting_max: int, *, is_awaited: bool,
    ) -> None:  # fmt: skip
        self._openers = openers
        self._models = models
        self._contexts = contexts
        self._sizes = sizes
        self._waiting_max = waiting_max
        self.is_awaited = is_awaited
        self._waiting: dict[str, list[Waiting]] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}
        self.on_fault: Callable[[str, str], None] | None = None

    def __contains__(self, name: object) -> bool:
        return name in self._openers

    def size(self, name: str) -> int | None:
        """Of a model's vocabulary, for a worker that comes up with it: UNREAD where it is ours and still to be read; None where it is
        none of ours."""
        model = self._models.get(name)
        if model is not None:
            return model.vocabulary.size
        opener = self._openers.get(name)
        if opener is None:
            return None
        if opener.is_eager:
            self._read(name)
        return UNREAD

    def takes(self, name: str, waiting: Waiting) -> bool:
        """Whether a request has to wait for this model's vocabulary: then it comes in again. Raises Invalid where too many wait."""
        if name not in self._openers or name in self._models or not (self.is_awaited or name in self._contexts):
            return False
        held = self._waiting.setdefault(name, [])
        if sum(map(len, self._waiting.values())) >= self._waiting_max:
            raise Invalid(
                f"too many requests wait for the model {name!r} to be opened", None, Why.QUEUE_FULL.value, 503
            )
        held.append(waiting)
        self._read(name)
        return True

    async def opened(self, name: str) -> None:
        """Wait until a model can be spoken for, if it is one of these. Raises Invalid where it cannot be."""
        if name not in self._openers or name in self._models:
            return
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.takes(name, Waiting(lambda: _settle(over, None), lambda fault: _settle(over, fault))):
            await over

    def _read(self, name: str) -> None:
        if name not in self._reading:
            self._reading[name] = asyncio.get_running_loop().create_task(self._open(name), name=f"open {name}")

    async def _open(self, name: str) -> None:
        fault: Invalid | None = None
        try:
            opened = await asyncio.get_running_loop().run_in_executor(None, self._openers[name].open)
            size, said = opened.model.vocabulary.size, self._sizes.get(name)
            if said is not None and said != size:
                raise ValueError(
                    f"its file has {size} tokens, its workers have {said}: it was changed after they were started"
                )
        except Exception as error:  # whatever it was: those who wait must be told, or they would wait for ever
            log.error("model %s cannot be spoken for: %s", name, error)
            why = without_paths(str(error))
            fault = Invalid(f"the model {name!r} cannot be used: {why}", None, Why.NO_REPLICA.value, 503)
            if self.on_fault is not None:
                self.on_fault(name, why)
        else:
            self._models[name] = opened.model
            self._contexts.setdefault(name, opened.context)
            log.info("model %s: its vocabulary of %d tokens is read", name, size)
        del self._reading[name]  # before anybody is told: who comes from here on, or again, has it read anew
        for waiting in self._waiting.pop(name, []):
            waiting.again() if fault is None else waiting.refused(fault)


def _settle(over: asyncio.Future[None], fault: Invalid | None) -> None:
    if over.done():
        return  # whoever waited has gone
    over.set_result(None) if fault is None else over.set_exception(fault)
