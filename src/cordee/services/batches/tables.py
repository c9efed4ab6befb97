"""The tables of batches, as the newest revision in migrations/ leaves them; a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
)

from cordee.services.base import jobs as base_jobs
from cordee.services.base.database import IDENTIFIER
from cordee.services.base.outbox import tables as outbox_tables
from cordee.services.batches.rules.lines import CUSTOM_ID_CHARACTERS_MAX, MODEL_CHARACTERS_MAX

TIME = Float(53)
NAMES = {"ix": "ix_%(table_name)s_%(column_0_name)s", "uq": "uq_%(table_name)s_%(column_0_name)s",
         "fk": "fk_%(table_name)s_%(column_0_name)s", "pk": "pk_%(table_name)s", "ck": "ck_%(table_name)s_%(constraint_name)s"}  # fmt: skip
MOMENTS = (
    "in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at", "cancelling_at", "cancelled_at",
)  # fmt: skip
TOKENS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
COUNTS = ("total", "completed", "failed")

metadata = MetaData(naming_convention=NAMES)

batches = Table(
    "batches", metadata, Column("id", IDENTIFIER, primary_key=True),
    *(Column(name, IDENTIFIER, nullable=False) for name in ("tenant", "key", "subject")),
    Column("scopes", JSON, nullable=False), Column("job", IDENTIFIER, nullable=False),
    Column("endpoint", String(64), nullable=False), Column("input_file", String(64), nullable=False),
    Column("status", String(16), nullable=False), Column("metadata", JSON), Column("output_lasts_s", Integer),
    Column("created_at", TIME, nullable=False), Column("expires_at", TIME, nullable=False),
    Column("model", String(MODEL_CHARACTERS_MAX)), Column("faults", JSON, nullable=False),
    *(Column(name, Integer, nullable=False) for name in COUNTS),
    *(Column(name, BigInteger, nullable=False) for name in TOKENS),
    Column("output_file", String(64)), Column("error_file", String(64)),
    *(Column(name, TIME) for name in MOMENTS),
)  # fmt: skip
Index("batches_of", batches.c.tenant, batches.c.id)

lines = Table(
    "lines", metadata,
    Column("batch", IDENTIFIER, ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("custom_id", String(CUSTOM_ID_CHARACTERS_MAX), nullable=False),
    Column("fate", SmallInteger, nullable=False), Column("request", LargeBinary),
    Column("status", Integer, nullable=False), Column("request_id", String(128), nullable=False),
    Column("body", LargeBinary),
)  # fmt: skip
Index("lines_by_fate", lines.c.batch, lines.c.fate, lines.c.number)

jobs = base_jobs.tables(metadata)
outbox, outbox_lease = outbox_tables(metadata)
