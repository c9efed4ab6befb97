"""The door of a services process that was told of no gateway: whoever asks for one is told so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from cordee.services.base.door import Asked, DoorError, Streamed, Whole
from cordee.wire.vouch import Vouched


class Nobody:
    """A Door behind which nobody is."""

    async def ask(self, caller: Vouched, asked: Asked) -> Whole:
        raise _alone(asked)

    def stream(self, caller: Vouched, asked: Asked) -> AbstractAsyncContextManager[AsyncIterator[Streamed]]:
        raise _alone(asked)

    def fetch(self, caller: Vouched, asked: Asked) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        raise _alone(asked)


def _alone(asked: Asked) -> DoorError:
    return DoorError(
        f"{asked.method} {asked.path}: this process was told of no gateway; start it with --gateway HOST:PORT"
    )
