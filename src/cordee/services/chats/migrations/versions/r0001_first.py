"""The log, conversations with their items and words, responses, and the outbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSVECTOR

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

IDENTIFIER = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WORDS = sa.Text().with_variant(TSVECTOR(), "postgresql")

# SQLite's index of the words that lie in `texts`; whoever writes there writes here.
SEARCH = (
    "CREATE VIRTUAL TABLE texts_fts USING fts5(words, content='texts', content_rowid='position', tokenize='unicode61')"
)


def upgrade() -> None:
    op.create_table(
        "conversations",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("tenant", IDENTIFIER, nullable=False),
        sa.Column("subject", IDENTIFIER, nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("updated_at", sa.Float(precision=53), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("titled_by", sa.Integer(), nullable=False),
        sa.Column("is_archived", sa.Boolean(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conversations")),
    )
    op.create_index("ix_conversations_owner", "conversations", ["tenant", "subject", "id"], unique=False)
    op.create_table(
        "erasures",
        sa.Column("tenant", IDENTIFIER, nullable=False),
        sa.Column("subject", IDENTIFIER, nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
    )
    op.create_index("ix_erasures_owner", "erasures", ["tenant", "subject"], unique=True)
    op.create_table(
        "events",
        sa.Column("position", NUMBER, autoincrement=True, nullable=False),
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("stream", IDENTIFIER, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("time", sa.Float(precision=53), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_events")),
        sa.UniqueConstraint("id", name=op.f("uq_events_id")),
        sa.UniqueConstraint("stream", "version", name=op.f("uq_events_stream_version")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "items",
        sa.Column("conversation", IDENTIFIER, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("tenant", IDENTIFIER, nullable=False),
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("conversation", "number", name=op.f("pk_items")),
        sa.UniqueConstraint("conversation", "id", name=op.f("uq_items_conversation_id")),
    )
    op.create_table(
        "outbox",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("type", sa.String(length=128), nullable=False),
        sa.Column("subject", IDENTIFIER, nullable=False),
        sa.Column("tenant", IDENTIFIER, nullable=False),
        sa.Column("time", sa.Float(precision=53), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("sent_at", sa.Float(precision=53), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_outbox")),
        sqlite_autoincrement=True,
    )
    op.create_index("outbox_sent", "outbox", ["sent_at"], unique=False)
    op.create_index(
        "outbox_unsent",
        "outbox",
        ["number"],
        unique=False,
        sqlite_where=sa.text("sent_at IS NULL"),
        postgresql_where=sa.text("sent_at IS NULL"),
    )
    op.create_table(
        "outbox_lease",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("holder", IDENTIFIER, nullable=False),
        sa.Column("until", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_outbox_lease")),
    )
    op.create_table(
        "response_events",
        sa.Column("response", IDENTIFIER, nullable=False),
        sa.Column("first", sa.Integer(), nullable=False),
        sa.Column("last", sa.Integer(), nullable=False),
        sa.Column("lines", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("response", "first", name=op.f("pk_response_events")),
    )
    op.create_index("ix_response_events_at", "response_events", ["at"], unique=False)
    op.create_table(
        "response_runs",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("tenant", IDENTIFIER, nullable=False),
        sa.Column("subject", IDENTIFIER, nullable=False),
        sa.Column("caller", sa.JSON(), nullable=False),
        sa.Column("fields", sa.JSON(), nullable=False),
        sa.Column("chat", sa.Text(), nullable=False),
        sa.Column("behind", sa.Integer(), nullable=False),
        sa.Column("holder", IDENTIFIER, nullable=False),
        sa.Column("until", sa.Float(precision=53), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("queued_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_response_runs")),
    )
    op.create_index("ix_response_runs_tenant", "response_runs", ["tenant"], unique=False)
    op.create_index("ix_response_runs_until", "response_runs", ["until"], unique=False)
    op.create_table(
        "responses",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("tenant", IDENTIFIER, nullable=False),
        sa.Column("subject", IDENTIFIER, nullable=False),
        sa.Column("previous", IDENTIFIER, nullable=True),
        sa.Column("is_background", sa.Boolean(), nullable=False),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("input", sa.JSON(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_responses")),
    )
    op.create_index("ix_responses_open", "responses", ["is_open", "id"], unique=False)
    op.create_index("ix_responses_owner", "responses", ["tenant", "subject", "id"], unique=False)
    op.create_table(
        "streams",
        sa.Column("stream", IDENTIFIER, nullable=False),
        sa.Column("tenant", IDENTIFIER, nullable=False),
        sa.Column("subject", IDENTIFIER, nullable=False),
        sa.Column("part_of", IDENTIFIER, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("erased_at", sa.Float(precision=53), nullable=True),
        sa.PrimaryKeyConstraint("stream", name=op.f("pk_streams")),
    )
    op.create_index("ix_streams_owner", "streams", ["tenant", "subject", "stream"], unique=False)
    op.create_index(
        "ix_streams_part_of",
        "streams",
        ["part_of"],
        unique=False,
        sqlite_where=sa.text("part_of != ''"),
        postgresql_where=sa.text("part_of != ''"),
    )
    op.create_table(
        "texts",
        sa.Column("position", NUMBER, autoincrement=False, nullable=False),
        sa.Column("tenant", IDENTIFIER, nullable=False),
        sa.Column("subject", IDENTIFIER, nullable=False),
        sa.Column("conversation", IDENTIFIER, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("words", WORDS, nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_texts")),
        sa.UniqueConstraint("conversation", "number", name=op.f("uq_texts_conversation_number")),
    )
    op.create_index("ix_texts_owner", "texts", ["tenant", "subject", "position"], unique=False)
    _search()


def downgrade() -> None:
    _no_search()
    op.drop_index("ix_texts_owner", table_name="texts")
    op.drop_table("texts")
    op.drop_index(
        "ix_streams_part_of",
        table_name="streams",
        sqlite_where=sa.text("part_of != ''"),
        postgresql_where=sa.text("part_of != ''"),
    )
    op.drop_index("ix_streams_owner", table_name="streams")
    op.drop_table("streams")
    op.drop_index("ix_responses_owner", table_name="responses")
    op.drop_index("ix_responses_open", table_name="responses")
    op.drop_table("responses")
    op.drop_index("ix_response_runs_until", table_name="response_runs")
    op.drop_index("ix_response_runs_tenant", table_name="response_runs")
    op.drop_table("response_runs")
    op.drop_index("ix_response_events_at", table_name="response_events")
    op.drop_table("response_events")
    op.drop_table("outbox_lease")
    op.drop_index(
        "outbox_unsent",
        table_name="outbox",
        sqlite_where=sa.text("sent_at IS NULL"),
        postgresql_where=sa.text("sent_at IS NULL"),
    )
    op.drop_index("outbox_sent", table_name="outbox")
    op.drop_table("outbox")
    op.drop_table("items")
    op.drop_table("events")
    op.drop_index("ix_erasures_owner", table_name="erasures")
    op.drop_table("erasures")
    op.drop_index("ix_conversations_owner", table_name="conversations")
    op.drop_table("conversations")


def _search() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.create_index("ix_texts_words", "texts", ["words"], postgresql_using="gin")
        return
    op.execute(SEARCH)


def _no_search() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.drop_index("ix_texts_words", table_name="texts")
        return
    op.drop_table("texts_fts")
