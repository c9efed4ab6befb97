"""The tables of webhooks, as the newest revision in migrations/ leaves them; a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from cordee.services.base import inbox as inboxes
from cordee.services.base.database import IDENTIFIER
from cordee.services.base.outbox import tables as outbox_tables

TIME = Float(53)
NAMES = {"ix": "ix_%(table_name)s_%(column_0_name)s", "uq": "uq_%(table_name)s_%(column_0_name)s",
         "fk": "fk_%(table_name)s_%(column_0_name)s", "pk": "pk_%(table_name)s"}  # fmt: skip

metadata = MetaData(naming_convention=NAMES)

endpoints = Table(
    "endpoints", metadata, Column("id", IDENTIFIER, primary_key=True), Column("tenant", IDENTIFIER, nullable=False),
    Column("subject", IDENTIFIER, nullable=False), Column("name", String(256), nullable=False),
    Column("url", String(2048), nullable=False), Column("event_types", JSON, nullable=False),
    Column("sealed", LargeBinary, nullable=False), Column("hint", String(16), nullable=False),
    Column("previous", LargeBinary), Column("previous_until", TIME), Column("created_at", TIME, nullable=False),
    Column("updated_at", TIME, nullable=False), Column("failing_since", TIME), Column("disabled_at", TIME),
)  # fmt: skip
Index("ix_endpoints_owner", endpoints.c.tenant, endpoints.c.subject, endpoints.c.id)

deliveries = Table(
    "deliveries", metadata, Column("id", IDENTIFIER, primary_key=True),
    Column("endpoint_id", IDENTIFIER, ForeignKey("endpoints.id", ondelete="CASCADE"), nullable=False),
    Column("tenant", IDENTIFIER, nullable=False), Column("message", IDENTIFIER, nullable=False),
    Column("type", String(64), nullable=False), Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False), Column("tries", Integer, nullable=False),
    Column("number", Integer, nullable=False), Column("until", TIME), Column("created_at", TIME, nullable=False),
    Column("next_at", TIME, nullable=False), Column("ended_at", TIME), Column("status", Integer),
    Column("why", String(256), nullable=False), UniqueConstraint("endpoint_id", "message"),
)  # fmt: skip
Index("ix_deliveries_due", deliveries.c.state, deliveries.c.next_at)
Index("ix_deliveries_ended", deliveries.c.ended_at)

outbox, outbox_lease = outbox_tables(metadata)
inbox = inboxes.tables(metadata)
