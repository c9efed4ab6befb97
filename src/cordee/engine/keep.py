"""Answers that outlive their listeners: what was said for a kept call, from its beginning, for whoever comes back for it.

The engine speaks to a kept answer as to one connection more, KEEPER. Its rows are appended to the answer's ring and handed on
to everybody who listens: to those who have heard all so far as they come, to those who came later as fast as they read. An
answer without listeners goes on for a while, a complete one stays for a while, and all together have a bound in bytes.
No I/O and no clock: `now` is an argument; what follows for the engine and for listeners is asked for with `to_stop`, `to_refuse`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cordee.domain.chunk import Finish
from cordee.engine.job import Emission, JobName, Rows, Tokens
from cordee.engine.kept import KEPT_BYTES, Kept, Listener, Part, rows_of
from cordee.link.frames import ROW, LogprobRow

KEEPER = 0  # the number of a connection that no gateway has
HANDLES = 1 << 32
ENDS_WHOLE = frozenset((Finish.STOP, Finish.LENGTH))


@dataclass(frozen=True, slots=True)
class KeepRules:
    """`grace_s`: how long an answer goes on without listeners; `keep_s`: how long a complete one stays; `bytes_max` of all."""

    grace_s: float = 30.0
    keep_s: float = 300.0
    bytes_max: int = 64 * 1024 * 1024


class Keeps:
    """All kept answers of a worker. `choices` and `tokens` are what those that run occupy."""

    def __init__(self, rules: KeepRules) -> None:
        self._rules = rules
        self._named: dict[tuple[str, str], Kept] = {}
        self._running: dict[int, Kept] = {}
        self._orphans: dict[int, Kept] = {}  # run without a listener, those the longest first
        self._complete: dict[int, Kept] = {}  # by the time of their end
        self._listeners: dict[JobName, Listener] = {}
        self._handles = 0
        self._stopped: list[JobName] = []
        self._deaf: list[JobName] = []
        self.bytes = 0
        self.choices = 0
        self.tokens = 0

    def admit(
        self, listener: JobName, tenant: str, call: str, choices: tuple[int, ...], outputs: Sequence[Tokens], cost: int,
        *, logprobs: bool = False,
    ) -> JobName | None:  # fmt: skip
        """Keep an answer that begins now for the attempt `listener`, which has had `outputs`. The name that the engine is to know
        its job by; None: there is no room, or what was said before is not known in full, so it runs un-kept."""
        if logprobs and any(len(output) for output in outputs):
            return None
        old = self._named.get((tenant, call))
        if old is not None:
            self._forget(old)
        rows = rows_of(choices, outputs)
        size = KEPT_BYTES + len(rows)
        self._make_room(size)
        if self.bytes + size > self._rules.bytes_max:
            return None
        self._handles = (self._handles + 1) % HANDLES
        kept = Kept(self._handles, tenant, call, choices, len(choices), cost, rows)
        self._named[tenant, call] = self._running[kept.handle] = kept
        self.bytes += size
        self.choices += kept.left
        self.tokens += kept.left * cost
        self._listen(Listener(listener, kept, None))
        return KEEPER, kept.handle

    def has(self, tenant: str, call: str, choices: int) -> bool:
        """Whether the answer of `call` is here, with all of its choices."""
        kept = self._named.get((tenant, call))
        return kept is not None and kept.choices == tuple(range(choices))

    def attach(self, listener: JobName, tenant: str, call: str) -> None:
        """Let `listener` hear the answer of `call` from its beginning, by `replay`. Only what `has` has said yes to."""
        kept = self._named[tenant, call]
        self._orphans.pop(kept.handle, None)
        self._listen(Listener(listener, kept, 0))

    def replay(self, listener: JobName, rows_max: int) -> Part | None:
        """The next rows for a listener that came later, `rows_max` at most. None: it hears live, or no longer."""
        found = self._listeners.get(listener)
        if found is None or found.at is None or found.kept.rows is None:
            return None
        part = found.kept.part(found, rows_max)
        if not part.more and not found.kept.left:
            self._hush(found)
        return part

    def leave(self, listener: JobName, now: float) -> None:
        """It does not listen any more; the answer goes on for a while, for whoever comes back."""
        found = self._hush(self._listeners.get(listener))
        if found is None or found.kept.listeners or not found.kept.left:
            return
        if found.kept.rows is None or self._named.get((found.kept.tenant, found.kept.call)) is not found.kept:
            self._forget(found.kept)  # nobody could ever find it
        else:
            found.kept.since_s = now
            self._orphans[found.kept.handle] = found.kept

    def cancel(self, listener: JobName) -> None:
        """It does not want the answer any more, which ends unless others listen."""
        found = self._hush(self._listeners.get(listener))
        if found is not None and not found.kept.listeners and found.kept.left:
            self._forget(found.kept)

    def heard(self, ready: Emission, now: float) -> Emission:
        """What an emission says to the connections of gateways, once what it says to kept answers is kept and handed on."""
        mine = ready.connections == KEEPER
        failures = self._failed(ready)
        if not mine.any():
            return ready if failures is ready.failures else _with(ready, failures=failures)
        theirs = [row for row in ready.logprobs if row[0] != KEEPER]
        theirs += self._noted([row for number, row in ready.logprobs if number == KEEPER])
        others = ~mine
        connections, rows = self._handed_on(ready.rows[mine], now)
        self._make_room(0)
        return Emission(
            np.concatenate([ready.connections[others], connections]),
            np.concatenate([ready.rows[others], rows]),
            theirs,
            failures,
            ready.cancelled,
            self._addressed(ready.cached),
            ready.results,
        )

    def due(self, now: float) -> None:
        """Forget what nobody came back for."""
        late = [kept for kept in self._orphans.values() if kept.since_s + self._rules.grace_s <= now]
        late += [kept for kept in self._complete.values() if kept.since_s + self._rules.keep_s <= now]
        for kept in late:
            self._forget(kept)

    def next_due(self) -> float | None:
        """When `due` has something to do, if nothing happens until then."""
        times = [kept.since_s + self._rules.grace_s for kept in _first(self._orphans)]
        times += [kept.since_s + self._rules.keep_s for kept in _first(self._complete)]
        return min(times, default=None)

    def to_stop(self) -> list[JobName]:
        """Jobs that the engine is to stop, each told once."""
        taken, self._stopped = self._stopped, []
        return taken

    def to_refuse(self) -> list[JobName]:
        """Listeners that can no longer hear what they were hearing, each told once: they had not caught up when it was given up."""
        taken, self._deaf = self._deaf, []
        return taken

    # -- inside

    def _handed_on(self, rows: Rows, now: float) -> tuple[NDArray[np.uint32], Rows]:
        """Append rows to their rings. Returns them addressed to those who listen live: (connections, rows).

        A step of hundreds of kept answers comes through here token by token, so this makes no object for one.
        """
        data, size, stored = rows.tobytes(), ROW.size, 0
        sources: list[int] = []
        connections: list[int] = []
        handles: list[int] = []
        running = self._running
        for at, (handle, finish) in enumerate(zip(rows["handle"].tolist(), rows["finish"].tolist(), strict=True)):
            kept = running.get(handle)
            if kept is None:
                continue  # it was forgotten while this row was on its way
            if kept.rows is not None:
                kept.rows += data[at * size : (at + 1) * size]
                stored += size
            for listener in kept.listeners:
                if listener.at is None:
                    connection, name = listener.name
                    sources.append(at)
                    connections.append(connection)
                    handles.append(name)
            if finish:
                self.bytes += stored  # what ends may be forgotten, with all it weighs
                stored = 0
                self._ended(kept, finish, now)
        self.bytes += stored
        told = rows[sources]
        told["handle"] = handles
        return np.array(connections, np.uint32), told

    def _listen(self, listener: Listener) -> None:
        self._listeners[listener.name] = listener
        listener.kept.listeners.append(listener)

    def _hush(self, listener: Listener | None) -> Listener | None:
        if listener is not None:
            del self._listeners[listener.name]
            listener.kept.listeners.remove(listener)
        return listener

    def _noted(self, rows: Sequence[LogprobRow]) -> list[tuple[int, LogprobRow]]:
        """Log-probabilities kept, and addressed to those who listen live."""
        sent: list[tuple[int, LogprobRow]] = []
        for row in rows:
            kept = self._running.get(row[0])
            if kept is None:
                continue
            if kept.rows is not None:
                self.bytes += kept.noted(row)
            sent += [(one.name[0], (one.name[1], *row[1:])) for one in kept.listeners if one.at is None]
        return sent

    def _ended(self, kept: Kept, finish: int, now: float) -> None:
        """One of its choices is complete."""
        kept.left -= 1
        self.choices -= 1
        self.tokens -= kept.cost
        kept.spoiled = kept.spoiled or finish not in ENDS_WHOLE
        if kept.left:
            return
        del self._running[kept.handle]
        self._orphans.pop(kept.handle, None)
        for listener in [one for one in kept.listeners if one.at is None]:
            self._hush(listener)
        if kept.spoiled or kept.rows is None:
            self._forget(kept)
        elif self._named.get((kept.tenant, kept.call)) is kept:
            kept.since_s = now
            self._complete[kept.handle] = kept
        else:
            self._weigh_nothing(kept)

    def _addressed(self, cached: Sequence[tuple[JobName, int]]) -> Sequence[tuple[JobName, int]]:
        """What kept answers found computed, addressed to those who listen live."""
        told: list[tuple[JobName, int]] = []
        for name, tokens in cached:
            kept = self._running.get(name[1]) if name[0] == KEEPER else None
            if kept is not None:
                told += [(listener.name, tokens) for listener in kept.listeners if listener.at is None]
            elif name[0] != KEEPER:
                told.append((name, tokens))
        return told

    def _failed(self, ready: Emission) -> Sequence[tuple[JobName, str]]:
        """The failures of an emission, those of kept answers addressed to all who listen."""
        if not any(name[0] == KEEPER for name, _ in ready.failures):
            return ready.failures
        failures: list[tuple[JobName, str]] = []
        for name, why in ready.failures:
            kept = self._running.get(name[1]) if name[0] == KEEPER else None
            if kept is not None:
                failures += [(listener.name, why) for listener in kept.listeners]
                self._forget(kept, stop=False)
            elif name[0] != KEEPER:
                failures.append((name, why))
        return failures

    def _make_room(self, wanted: int) -> None:
        """Get below the bound: complete answers go first, the oldest of them first of all; then, if what is there is too much
        already, the rings of the youngest that run."""
        most = self._rules.bytes_max
        if self.bytes + wanted <= most:
            return
        for kept in [kept for kept in self._complete.values() if not kept.listeners]:
            if self.bytes + wanted <= most:
                return
            self._forget(kept)
        for kept in reversed(list(self._running.values())):
            if self.bytes <= most:
                break
            if not kept.listeners:
                self._forget(kept)
                continue
            behind = [one for one in kept.listeners if one.at is not None]
            if len(behind) == len(kept.listeners):
                continue  # it would be nobody's: let them catch up
            for one in behind:
                self._hush(one)
            self._deaf += [one.name for one in behind]
            self._weigh_nothing(kept)
            kept.rows = None
            kept.logprobs = {}
            self._unname(kept)

    def _forget(self, kept: Kept, *, stop: bool = True) -> None:
        """Nobody can ask for it any more. If it runs, it goes on for those who listen; without them the engine stops."""
        self._unname(kept)
        self._orphans.pop(kept.handle, None)
        self._complete.pop(kept.handle, None)
        if stop and kept.left and kept.listeners:
            return
        for listener in list(kept.listeners):
            if not stop:
                self._hush(listener)
        if self._running.pop(kept.handle, None) is not None:
            self.choices -= kept.left
            self.tokens -= kept.left * kept.cost
            if stop:
                self._stopped.append((KEEPER, kept.handle))
        self._weigh_nothing(kept)

    def _unname(self, kept: Kept) -> None:
        if self._named.get((kept.tenant, kept.call)) is kept:
            del self._named[kept.tenant, kept.call]

    def _weigh_nothing(self, kept: Kept) -> None:
        if kept.is_weighed:
            kept.is_weighed = False
            self.bytes -= kept.weight()


def _with(ready: Emission, failures: Sequence[tuple[JobName, str]]) -> Emission:
    return replace(ready, failures=failures)


def _first(kept: dict[int, Kept]) -> list[Kept]:
    return [next(iter(kept.values()))] if kept else []
