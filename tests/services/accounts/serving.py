"""The accounts service as uvicorn's factory, for tests that want a real process: CORDEE_TEST_DATA names its data directory."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from fastapi import FastAPI

from cordee.config.sections.services import Accounts, Passwords
from cordee.services.accounts.app import NAME, create
from cordee.services.base.database import connect
from cordee.services.base.door import Asked, Streamed, Whole
from cordee.services.base.ground import Ground
from cordee.services.base.outbox import MemoryPublisher
from cordee.services.base.seal import secret_of
from cordee.wire.vouch import Vouched

DATA = "CORDEE_TEST_DATA"


def make() -> FastAPI:
    data = Path(os.environ[DATA])
    settings = Accounts(passwords=Passwords(memory_kib=8, passes=1, lanes=1))
    return create(settings, connect(settings.database, NAME, data), ground(data))


def ground(data: Path) -> Ground:
    secret = secret_of(data / "services" / "internal.secret")
    return Ground(data, secret, NoDoor(), MemoryPublisher(), time.time)


class NoDoor:
    """Accounts ask nobody."""

    async def ask(self, caller: Vouched, asked: Asked) -> Whole:
        raise AssertionError("accounts ask nobody")

    def stream(self, caller: Vouched, asked: Asked) -> AbstractAsyncContextManager[AsyncIterator[Streamed]]:
        raise AssertionError("accounts ask nobody")

    def fetch(self, caller: Vouched, asked: Asked) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        raise AssertionError("accounts ask nobody")
