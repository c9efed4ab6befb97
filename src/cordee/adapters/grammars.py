"""Port Grammars: a process beside this one tries each grammar out, and what it said is remembered.

The process is started when the first grammar comes, ends when none has come for a while, and is started again when one ended it. One
grammar is tried at a time; who comes meanwhile waits in a line of bounded length, and equal ones wait for the same trial.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections import Counter, OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b

import msgspec

from cordee.domain.call import Grammar
from cordee.ports import AwayError

log = logging.getLogger(__name__)

PROGRAM = ("-I", "-m", "cordee.kernels.grammar_trial")
START_S = 10.0  # to be ready; a tenth of a second on an idle machine
WALL_FACTOR = 20  # a busy machine gives a process of low priority a twentieth of a processor
LINE_BYTES_MAX = 64 * 1024  # of what the process says
KEY_BYTES = 16

_encode = msgspec.json.Encoder().encode
_complaint = msgspec.json.Decoder(str).decode


@dataclass(frozen=True, slots=True)
class TrialRules:
    """See config.sections.structured."""

    compute_s: float = 1.0
    memory_bytes: int = 512 * 1024 * 1024
    idle_s: float = 300.0
    waiting_max: int = 64
    remembered_max: int = 4096


class GrammarTrials:
    """`counts`: grammars that were asked for here by what was found: fine, refused, too_long, broken. Those found fine before are
    not counted again by `known`."""

    def __init__(self, rules: TrialRules) -> None:
        self.rules = rules
        self.counts: Counter[str] = Counter()
        self._remembered: OrderedDict[bytes, str] = OrderedDict()
        self._running: dict[bytes, asyncio.Future[str]] = {}
        self._turn = asyncio.Lock()
        self._child: asyncio.subprocess.Process | None = None
        self._rest: asyncio.TimerHandle | None = None

    def known(self, grammar: Grammar) -> str | None:
        """What was found wrong with it before, "" for nothing; None: it was not looked at, or is forgotten."""
        key = _key(grammar)
        verdict = self._remembered.get(key)
        if verdict is not None:
            self._remembered.move_to_end(key)
        return verdict

    async def check(self, grammar: Grammar) -> str:
        """What is wrong with it, "" for nothing. Raises AwayError."""
        verdict = self.known(grammar)
        if verdict is not None:
            self.counts["refused" if verdict else "fine"] += 1
            return verdict
        key = _key(grammar)
        running = self._running.get(key)
        if running is not None:
            return await asyncio.shield(running)
        if len(self._running) >= self.rules.waiting_max:
            raise AwayError(f"{len(self._running)} other schemas wait to be compiled, which is as many as may")
        self._running[key] = running = asyncio.ensure_future(self._try(key, grammar))
        return await asyncio.shield(running)

    def close(self) -> None:
        """End the process, if there is one."""
        if self._child is not None:
            _end(self._child)
        self._leave()

    def _leave(self) -> None:
        """The next grammar gets a process of its own."""
        if self._rest is not None:
            self._rest.cancel()
        self._child = None

    async def _try(self, key: bytes, grammar: Grammar) -> str:
        try:
            async with self._turn:
                verdict = await self._told(grammar)
        finally:
            del self._running[key]
        self._remembered[key] = verdict
        if len(self._remembered) > self.rules.remembered_max:
            self._remembered.popitem(last=False)
        return verdict

    async def _told(self, grammar: Grammar) -> str:
        if self._rest is not None:
            self._rest.cancel()
        try:
            child = self._child
            if child is None or child.returncode is not None:
                child = await self._start()
            verdict = await self._ask(child, grammar)
        except BaseException:
            self.close()  # whatever it would say next would be about something else
            raise
        self._rest = asyncio.get_running_loop().call_later(self.rules.idle_s, self.close)
        return verdict

    async def _start(self) -> asyncio.subprocess.Process:
        rules = self.rules
        try:
            child = await asyncio.create_subprocess_exec(
                sys.executable, *PROGRAM, str(rules.compute_s), str(rules.memory_bytes), stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE, limit=LINE_BYTES_MAX,
            )  # fmt: skip
        except OSError as error:
            raise AwayError(f"no process can be started to compile it in: {error}") from error
        self._child = child
        if not await _line(child, START_S):
            raise AwayError("the process that compiles schemas does not start; the log of this gateway may say why")
        return child

    async def _ask(self, child: asyncio.subprocess.Process, grammar: Grammar) -> str:
        assert child.stdin is not None
        with suppress(ConnectionError):
            child.stdin.write(_encode((grammar.syntax.value, grammar.text)) + b"\n")
            await child.stdin.drain()
        said = await _line(child, self.rules.compute_s * WALL_FACTOR)
        if said:
            verdict = _complaint(said)
            self.counts["refused" if verdict else "fine"] += 1
            return verdict
        if said is None:
            self.close()
        else:  # it ends by itself: to signal a process that is ending could take its status from those who wait for it
            self._leave()
        status = await child.wait()
        return self._ended(status, is_late=said is None or status == -signal.SIGPROF)

    def _ended(self, status: int, *, is_late: bool) -> str:
        """The process ended over a grammar, which is what is wrong with it."""
        if is_late:
            self.counts["too_long"] += 1
            return f"to compile it takes longer than {self.rules.compute_s:g} s, the limit; simplify it"
        self.counts["broken"] += 1
        log.warning("the process that compiles grammars ended with status %d over one of them", status)
        return f"to compile it takes more than {self.rules.memory_bytes >> 20} MiB of memory, the limit; simplify it"


async def _line(child: asyncio.subprocess.Process, wait_s: float) -> bytes | None:
    """What it says next; empty where it has ended, None where it says nothing in time."""
    assert child.stdout is not None
    try:
        async with asyncio.timeout(wait_s):
            return await child.stdout.readline()
    except TimeoutError:
        return None


def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        with suppress(ProcessLookupError):
            child.kill()


def _key(grammar: Grammar) -> bytes:
    digest = blake2b(grammar.syntax.value.encode(), digest_size=KEY_BYTES)
    digest.update(b"\0" + grammar.text.encode())
    return digest.digest()
