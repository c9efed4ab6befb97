"""Passwords are checked with Argon2id, in a few threads of their own: a check is dear by design, and must not stop the event loop
or be a way to fill the memory. Whoever finds too many waiting is told to come again."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from cordee.config.sections.services import Passwords
from cordee.services.base.errors import Problem

BUSY_RETRY_AFTER_S = 5
T = TypeVar("T")


class Hasher:
    """Makes and checks what is stored of a password. One event loop; `close` at the end."""

    def __init__(self, settings: Passwords) -> None:
        self._hasher = PasswordHasher(
            time_cost=settings.passes, memory_cost=settings.memory_kib, parallelism=settings.lanes, type=Type.ID
        )
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="passwords")
        self._open = 0
        self._open_max = settings.threads + settings.waiting_max
        # Compared with where there is no such user, so that this takes as long as for one that is there.
        self._nobody = self._hasher.hash(secrets.token_urlsafe())

    async def make(self, password: str) -> str:
        """What is stored. Raises Problem (503) when too many wait."""
        return await self._apart(lambda: self._hasher.hash(password))

    async def is_right(self, password: str, stored: str | None) -> tuple[bool, bool]:
        """Whether it is the password, and whether it should be stored anew because checking has become dearer since. `stored`
        None: there is no such user; takes as long. Raises Problem (503) when too many wait."""

        def check() -> tuple[bool, bool]:
            try:
                self._hasher.verify(stored or self._nobody, password)
            except (VerificationError, InvalidHashError):
                return False, False
            return stored is not None, stored is not None and self._hasher.check_needs_rehash(stored)

        return await self._apart(check)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _apart(self, what: Callable[[], T]) -> T:
        if self._open >= self._open_max:
            raise Problem(
                503,
                f"{self._open} passwords are being checked, the most at once; try again in {BUSY_RETRY_AFTER_S} s.",
                code="busy",
                retry_after_s=BUSY_RETRY_AFTER_S,
            )
        self._open += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, what)
        finally:
            self._open -= 1
