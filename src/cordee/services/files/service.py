"""What all that files do is done with: one of each per process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from cordee.config.sections.services import Files
from cordee.services.base.database import Database
from cordee.services.base.errors import Problem
from cordee.services.base.outbox import Outbox
from cordee.services.files.cipher import Keyring
from cordee.services.files.storage import Storage

T = TypeVar("T")
RETRY_AFTER_S = 2  # where all places for contents coming in are taken


class Service:
    """The parts. `now`: seconds of the epoch."""

    def __init__(
        self, settings: Files, database: Database, outbox: Outbox, storage: Storage, keys: Keyring, now: Callable[[], float]
    ) -> None:  # fmt: skip
        self.settings = settings
        self.database = database
        self.outbox = outbox
        self.storage = storage
        self.keys = keys
        self.now = now
        self._transfers = 0
        # Few, and of our own: each thread keeps freed memory for itself, and others' work must not wait behind ours.
        self._threads = ThreadPoolExecutor(settings.threads, "files")

    @contextlib.contextmanager
    def transfer(self) -> Iterator[None]:
        """A place for a content that comes in; each takes some MiB of memory. Raises Problem (503)."""
        if self._transfers >= self.settings.transfers_max:
            raise Problem(
                503, f"{self._transfers} uploads are running here, the most there can be; try again in a moment.",
                code="too_many_uploads", retry_after_s=RETRY_AFTER_S,
            )  # fmt: skip
        self._transfers += 1
        try:
            yield
        finally:
            self._transfers -= 1

    async def work(self, do: Callable[[], T]) -> T:
        """What hashes and encrypts a block, beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, do)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
