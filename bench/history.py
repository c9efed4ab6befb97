"""What a long history costs: the first page of a conversation with 10,000 items beside one with 100, and search in 100,000 messages.

    .venv/bin/python -m bench.history [--questions 300]

On PostgreSQL (the one that the tests start), through the service's own queries, one question at a time. Two owners: one with the
100,000 messages, of which search answers, and one with a tenth of them in the same tables. Words follow Zipf's law over a vocabulary
of 20,000; questions are one to three words drawn the same way, so that common ones and rare ones are among them.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bench.machine import percentile, write
from cordee.config.sections.services import Chats, DatabaseSettings
from cordee.services.base.database import Database, connect
from cordee.services.base.migrate import migrate
from cordee.services.chats import store
from cordee.services.chats.app import HISTORY, NAME, log_of
from cordee.services.chats.log import NEW, Log, Owner
from cordee.services.chats.tables import metadata
from cordee.services.chats.telling import created, item_added
from cordee.services.chats.words import units
from tests.postgres import postgres

SEED = 1
VOCABULARY = 20_000
WORDS = 40  # of a message
PIECE = 1000  # messages of one transaction
PAGE = 20
MIGRATE_S = 60.0


class Texts:
    """Messages as people write them, in so far as search can tell."""

    def __init__(self) -> None:
        self._random = random.Random(SEED)
        self._vocabulary = [f"{self._random.choice('bcdfgklmnprst')}a{number:x}" for number in range(VOCABULARY)]
        self._weights = [1 / (rank + 1) for rank in range(VOCABULARY)]

    def words(self, count: int) -> str:
        return " ".join(self._random.choices(self._vocabulary, self._weights, k=count))

    def question(self) -> str:
        return self.words(self._random.randint(1, 3))


async def fill(database: Database, log: Log, owner: Owner, name: str, count: int, texts: Texts) -> None:
    """A conversation of `count` messages."""
    async with database.writing() as on:
        await log.append(on, name, owner, NEW, [created({})], 1.0)
    for first in range(0, count, PIECE):
        said = [
            item_added({"id": f"msg_{name}_{number}", "type": "message", "role": "user", "status": "completed",
                        "content": [{"type": "input_text", "text": texts.words(WORDS)}]})
            for number in range(first, min(first + PIECE, count))
        ]  # fmt: skip
        async with database.writing() as on:
            await log.append(on, name, owner, None, said, 1.0 + first)


async def timed(times: int, ask: Callable[[], Awaitable[Any]]) -> dict[str, float]:
    """Milliseconds."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        await ask()
        took.append((time.perf_counter() - began) * 1000)
    return {f"p{share}": round(percentile(took, share / 100), 2) for share in (50, 95, 99)}


async def measure(url: str, data: Path, questions: int) -> dict[str, Any]:
    database = connect(DatabaseSettings(url=url, statement_s=60.0), NAME, data)
    await migrate(database, HISTORY, metadata, MIGRATE_S)
    log, texts = log_of(Chats()), Texts()
    owner, other = Owner("tn_one", "us_one"), Owner("tn_two", "us_two")
    await fill(database, log, owner, "conv_small", 100, texts)
    for number in range(10):
        await fill(database, log, owner, f"conv_{number}", 10_000, texts)
    await fill(database, log, other, "conv_other", 10_000, texts)
    async with database.engine.connect() as on:
        plain = await on.execution_options(isolation_level="AUTOCOMMIT")
        await plain.exec_driver_sql("VACUUM ANALYZE")

    async def page(name: str) -> None:
        async with database.reading() as on:
            assert await store.conversation(on, owner, name) is not None
            assert len(await store.items_of(on, owner, name, None, PAGE + 1, True)) == PAGE + 1

    async def search() -> None:
        async with database.reading() as on:
            await store.found(on, owner, units(texts.question()), None, PAGE + 1)

    await timed(50, lambda: page("conv_small"))
    pages: dict[str, list[float]] = {"conv_small": [], "conv_0": []}
    for _ in range(questions):  # by turns, so that whatever else the machine does falls on both
        for name, took in pages.items():
            began = time.perf_counter()
            await page(name)
            took.append((time.perf_counter() - began) * 1000)
    of_100, of_10_000 = (
        {f"p{share}": round(percentile(took, share / 100), 2) for share in (50, 95, 99)} for took in pages.values()
    )
    await timed(20, search)
    figures = {
        "first_page_ms": {"100": of_100, "10000": of_10_000, "p99_ratio": round(of_10_000["p99"] / of_100["p99"], 2)},
        "search_ms_in_100000": await timed(questions, search),
    }
    await database.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=300)
    asked = parser.parse_args()
    with postgres() as server, tempfile.TemporaryDirectory() as data:
        figures = asyncio.run(measure(f"{server}/postgres", Path(data), asked.questions))
    print(figures)
    write("history", "What does a long history cost: the first page, and search?", {"seed": SEED, **figures})


if __name__ == "__main__":
    main()
