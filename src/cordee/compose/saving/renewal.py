"""A restored accounts database begins another life, and says so to those who follow it.

Gateways may have followed the one before further than the backup goes. Under the same name they would take what is restored for news of
what they know, and keep whom the backup does not have; under another they read all of it anew.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from sqlalchemy import inspect
from sqlalchemy.exc import SQLAlchemyError

from cordee.compose.saving.problem import SavingError
from cordee.compose.service_apps import Kept
from cordee.services.accounts.store import changes
from cordee.services.accounts.tables import feed_clock
from cordee.services.base.database import AwayError, DatabaseError, connect

EPOCH_BYTES = 16


async def renew(accounts: Kept, data: Path) -> None:
    """`data`: the directory that holds the database, where it is a file. Raises SavingError."""
    try:
        database = connect(accounts.database, accounts.service.value, data)
        try:
            async with database.writing() as on:
                # A backup from before there was a feed gets its name when the schema is brought on.
                if await on.run_sync(lambda sync: inspect(sync).has_table(feed_clock.name)):
                    await changes.renew(on, secrets.token_hex(EPOCH_BYTES))
        finally:
            await database.close()
    except (DatabaseError, AwayError, SQLAlchemyError) as error:
        raise SavingError(
            f"the database of accounts cannot be changed after it was filled: {error}; mend it and restore again with --force"
        ) from error
