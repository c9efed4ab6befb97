"""A process that listens with an inbox and notes each effect in its database: `python -m tests.services.base.listener URL DIRECTORY`."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from sqlalchemy import Column, Integer, MetaData, String, Table, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.config.sections.services import DatabaseSettings, Events, InboxSettings
from cordee.services.base.broker import open_broker
from cordee.services.base.database import Database, connect
from cordee.services.base.inbox import Inbox, tables
from cordee.services.base.outbox import Event

metadata = MetaData()
inbox_tables = tables(metadata)
effects = Table("effects", metadata, Column("n", Integer, primary_key=True), Column("type", String(128)))
SETTINGS = InboxSettings(lease_s=1.5, retry_s=0.05, tries_max=3)
EFFECT_S = 0.01  # an effect takes a moment, so that a kill finds it half done


def database_in(directory: Path) -> Database:
    return connect(DatabaseSettings(), "listener", directory)


async def note(on: AsyncConnection, event: Event) -> None:
    await on.execute(insert(effects).values(type=event.type))
    await asyncio.sleep(EFFECT_S)


async def main(url: str, directory: Path) -> None:
    database = database_in(directory)
    inbox = Inbox("webhooks", database, inbox_tables, SETTINGS, time.time)
    inbox.subscribe("cordee.test.*", note)
    await inbox.run(open_broker(Events(url=url, retry_s=0.1, retry_s_max=0.5)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
