"""Which key signs, when several processes begin at once."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import delete

from cordee.services.accounts.tables import signing_keys
from cordee.services.accounts.tokens import Mint
from cordee.services.base.seal import Seal
from tests.services.accounts.conftest import House

pytestmark = pytest.mark.anyio
PROCESSES = 4


async def test_processes_that_start_together_on_an_empty_database_believe_each_others_tokens_at_once(house: House):
    async with house.database.writing() as on:
        await on.execute(delete(signing_keys))
    mints = [Mint(house.settings, house.database, Seal(b"s" * 32), lambda: house.clock) for _ in range(PROCESSES)]
    await asyncio.gather(*(mint.keep() for mint in mints))
    assert [len(mint.published()) for mint in mints] == [1] * PROCESSES
    for signer in mints:
        token = signer.access("user_a", "tenant_a", "client", frozenset({"inference"}), None, None)
        assert all(mint.read(token) is not None for mint in mints)
