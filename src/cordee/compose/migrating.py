"""`cordee migrate`: every service's database brought to where this program wants it, or back to a revision that is named.

Services do the same for themselves when they start. This is for whoever wants to see it first, to do it before an update, or to go
back; going back is refused while a platform of this directory runs, whose services would meet tables that are gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from cordee.compose.service_apps import Kept, kept
from cordee.config.tree import Config
from cordee.domain.record import record
from cordee.services.base.database import AwayError, Database, DatabaseError, connect
from cordee.services.base.migrate import HEAD, NOTHING, Standing, migrate, standing
from cordee.supervisor.asking import NotRunningError, ask_status

STATEMENT_S = 3600.0  # a table that is rewritten may be large, and nobody waits for an answer


class MigrateError(Exception):
    """It was not done; the message says why and what to do."""


@record
class Wanted:
    """`service`: its name, "" for all. `to`: HEAD, NOTHING or a revision. `only_look`: change nothing. `drops`: everything in the
    database may go, which NOTHING means."""

    service: str = ""
    to: str = HEAD
    only_look: bool = False
    drops: bool = False


def run(config: Config, data: Path, wanted: Wanted, say: Callable[[str], None]) -> bool:
    """Do it and say each step; returns whether every database is where it should be. Raises MigrateError."""
    chosen = [one for one in kept(config.services) if wanted.service in ("", one.service.value)]
    if not chosen:
        names = ", ".join(one.service.value for one in kept(config.services))
        raise MigrateError(f"there is no service {wanted.service!r}; there are {names}")
    if wanted.to != HEAD and not wanted.service:
        raise MigrateError(f"--to {wanted.to} is a revision of one service: say which with --service NAME")
    if wanted.to == NOTHING and not wanted.drops:
        raise MigrateError(
            f"--to {NOTHING} deletes everything that {wanted.service} keeps: say so with --drop-everything"
        )
    return asyncio.run(_all(chosen, data, wanted, say))


async def _all(chosen: list[Kept], data: Path, wanted: Wanted, say: Callable[[str], None]) -> bool:
    fine = True
    for one in chosen:
        if wanted.only_look and not one.database.url and not (data / "services" / f"{one.service.value}.db").exists():
            say(f"{one.service.value}: there is no database yet")
            continue
        database = connect(replace(one.database, statement_s=STATEMENT_S), one.service.value, data)
        try:
            fine &= await _one(one, database, data, wanted, say)
        except (DatabaseError, AwayError) as error:
            raise MigrateError(f"{one.service.value}: {error}") from error
        finally:
            await database.close()
    return fine


async def _one(one: Kept, database: Database, data: Path, wanted: Wanted, say: Callable[[str], None]) -> bool:
    name, now = one.service.value, await standing(database, one.history)
    if wanted.only_look:
        say(f"{name}: {_told(now)}")
        return now.here == now.head
    if wanted.to != HEAD and now.here is not None and wanted.to != now.here:
        _refuse_while_running(data, name)
    to = await migrate(database, one.history, one.metadata(), one.database.migrate_wait_s, wanted.to)
    say(f"{name}: at {_shown(to)}" + (", as before" if to == now.here else f", was at {_shown(now.here)}"))
    return True


def _refuse_while_running(data: Path, name: str) -> None:
    """Which way a named revision lies plays no part: with the newest one the services come up by themselves."""
    try:
        ask_status(data)
    except NotRunningError:
        return
    raise MigrateError(
        f"the platform of {data} runs, and its {name} would meet tables that it does not know: end it first with `cordee down`"
    )


def _told(now: Standing) -> str:
    if not now.is_known:
        return (
            f"at {now.here}, which this program does not know: a newer version has migrated it; start that version, or restore a "
            "backup from before the update"
        )
    if now.here == now.head:
        return f"at {_shown(now.here)}, which is the newest"
    return (
        f"at {_shown(now.here)}, {_shown(now.head)} is the newest: `cordee migrate` or the next start brings it there"
    )


def _shown(revision: str | None) -> str:
    return revision or "nothing"
