"""Two servers of different versions on the same databases: each step of a schema only adds, and goes back without a trace.

An older program goes on writing rows into a schema that a newer one has moved on, so nothing that it writes may be refused and nothing that
it reads may be gone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect
from sqlalchemy.engine.interfaces import ReflectedColumn

from cordee.compose.service_apps import Kept, kept
from cordee.config.sections.services import Services
from cordee.domain.record import record
from cordee.services.base.database import Database
from cordee.services.base.migrate import NOTHING, migrate
from tests.services import on_both

pytestmark = pytest.mark.anyio
WAIT_S = 30.0
REVISIONS = "alembic_version"
each_service = pytest.mark.parametrize("one", kept(Services()), ids=lambda one: one.service.value)


@record
class Schema:
    """What a database holds: the columns of each table, and its rules, each in a form that can be compared."""

    columns: dict[str, dict[str, ReflectedColumn]]
    rules: dict[str, frozenset[str]]  # what refuses rows: keys, uniqueness, checks, references
    indexes: dict[str, frozenset[str]]


def revisions(history: Path) -> list[str]:
    config = Config()
    config.set_main_option("script_location", str(history))
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]


def look(on: Connection) -> Schema:
    there = inspect(on)
    names = [name for name in there.get_table_names() if name != REVISIONS]
    columns = {name: {column["name"]: column for column in there.get_columns(name)} for name in names}
    rules = {
        name: frozenset(
            _words(kind, found)
            for kind, all_found in (
                ("primary key", [there.get_pk_constraint(name)]),
                ("unique", there.get_unique_constraints(name)),
                ("unique", [index for index in there.get_indexes(name) if index["unique"]]),
                ("check", there.get_check_constraints(name)),
                ("reference", there.get_foreign_keys(name)),
            )
            for found in all_found
        )
        for name in names
    }
    indexes = {name: frozenset(_words("index", index) for index in there.get_indexes(name)) for name in names}
    return Schema(columns, rules, indexes)


def _words(kind: str, found: Any) -> str:
    told = {name: value for name, value in found.items() if value and name not in ("name", "duplicates_constraint")}
    return f"{kind} {json.dumps(told, default=str, sort_keys=True)}"


def plain(schema: Schema) -> Any:
    """All of it; where a column stands in its table is nobody's business."""
    columns = {
        table: {name: sorted((key, str(value)) for key, value in column.items()) for name, column in found.items()}
        for table, found in schema.columns.items()
    }
    return columns, schema.rules, schema.indexes


def faults(before: Schema, after: Schema) -> list[str]:
    """What would be in the way of a program that knows only `before`."""
    found = [f"the table {table} is gone" for table in before.columns if table not in after.columns]
    for table, columns in before.columns.items():
        now = after.columns.get(table, {})
        for name, column in columns.items():
            if name not in now:
                found.append(f"{table}.{name} is gone")
            elif str(now[name]["type"]) != str(column["type"]):
                found.append(f"{table}.{name} was {column['type']} and is {now[name]['type']}")
            elif column["nullable"] and not now[name]["nullable"]:
                found.append(f"{table}.{name} takes no NULL any more")
        for name, column in now.items():
            if name not in columns and not column["nullable"] and column["default"] is None:
                found.append(f"{table}.{name} is new and must be given")
        found += [f"{table}: new rule: {rule}" for rule in after.rules.get(table, frozenset()) - before.rules[table]]
    return found


async def schema_of(database: Database) -> Schema:
    async with database.reading() as on:
        return await on.run_sync(look)


@each_service
@on_both
async def test_each_step_only_adds_and_goes_back_without_a_trace(one: Kept, database: Database):
    metadata = one.metadata()
    steps = revisions(one.history)
    seen: list[Schema] = []
    for revision in steps:
        await migrate(database, one.history, metadata, WAIT_S, revision)
        seen.append(await schema_of(database))
        if len(seen) > 1:
            assert faults(seen[-2], seen[-1]) == [], f"{one.service.value} {revision}"
    for revision, before in zip(steps[-2::-1], seen[-2::-1], strict=True):
        await migrate(database, one.history, metadata, WAIT_S, revision)
        assert plain(await schema_of(database)) == plain(before), f"back to {revision}"
    await migrate(database, one.history, metadata, WAIT_S, NOTHING)
    assert (await schema_of(database)).columns == {}


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ("DROP TABLE b", "the table b is gone"),
        ("ALTER TABLE a DROP COLUMN text", "a.text is gone"),
        ("ALTER TABLE a RENAME COLUMN text TO words", "a.text is gone"),
        ("ALTER TABLE a ADD COLUMN more TEXT NOT NULL DEFAULT ''", None),
        ("ALTER TABLE a ADD COLUMN more TEXT", None),
        ("CREATE TABLE c (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)", None),
        ("CREATE INDEX ix ON a (text)", None),
        ("CREATE UNIQUE INDEX ix ON a (text)", "a: new rule: unique"),
        ("ALTER TABLE a ADD COLUMN b_id INTEGER REFERENCES b (id)", "a: new rule: reference"),
    ],
)
async def test_what_would_be_in_the_way_is_seen(database: Database, step: str, fault: str | None):
    async with database.writing() as on:
        await on.exec_driver_sql("CREATE TABLE a (id INTEGER PRIMARY KEY, text TEXT)")
        await on.exec_driver_sql("CREATE TABLE b (id INTEGER PRIMARY KEY)")
    before = await schema_of(database)
    async with database.writing() as on:
        await on.exec_driver_sql(step)
    found = faults(before, await schema_of(database))
    assert found[0].startswith(fault) if fault else not found, found
