"""The chats database: what was told (`streams`, `events`) and what is read (all other tables, made from the events alone).

`events.position` numbers everything that was told, `events.version` what one stream was told; both only grow. A row of `streams` is the
head of one stream: who changes it holds its lock, so that the versions of a stream have no gap and its positions follow its versions.
What is read is a projection (projections.py): it may be dropped and made again, and nothing refers to it by a foreign key.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import TSVECTOR

from cordee.services.base.database import IDENTIFIER
from cordee.services.base.outbox import tables as outbox_tables

TITLE_CHARACTERS_MAX = 200
TYPE_CHARACTERS = 64

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)
NUMBER = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts only an INTEGER up by itself
WORDS = Text().with_variant(TSVECTOR, "postgresql")


def _owner() -> tuple[Column[str], Column[str]]:
    return Column("tenant", IDENTIFIER, nullable=False), Column("subject", IDENTIFIER, nullable=False)


streams = Table(
    "streams", metadata, Column("stream", IDENTIFIER, primary_key=True), *_owner(),
    Column("part_of", IDENTIFIER, nullable=False),  # the conversation with which it is erased; "" for none
    Column("version", Integer, nullable=False), Column("erased_at", Float(53)),
)  # fmt: skip
Index("ix_streams_owner", streams.c.tenant, streams.c.subject, streams.c.stream)
Index(
    "ix_streams_part_of",
    streams.c.part_of,
    sqlite_where=streams.c.part_of != "",
    postgresql_where=streams.c.part_of != "",
)

events = Table(
    "events", metadata, Column("position", NUMBER, primary_key=True, autoincrement=True),
    Column("id", IDENTIFIER, nullable=False, unique=True), Column("stream", IDENTIFIER, nullable=False),
    Column("version", Integer, nullable=False), Column("type", String(TYPE_CHARACTERS), nullable=False),
    Column("time", Float(53), nullable=False), Column("data", JSON, nullable=False),
    UniqueConstraint("stream", "version"),
    sqlite_autoincrement=True,  # a position is never used twice, also after the last events were erased
)  # fmt: skip

# Whose history was erased, and when: what a spool still holds from before is not to come back. Subject "": the whole tenant's.
erasures = Table("erasures", metadata, *_owner(), Column("at", Float(53), nullable=False))
Index("ix_erasures_owner", erasures.c.tenant, erasures.c.subject, unique=True)

conversations = Table(
    "conversations", metadata, Column("id", IDENTIFIER, primary_key=True), *_owner(),
    Column("created_at", Float(53), nullable=False), Column("updated_at", Float(53), nullable=False),
    Column("title", String(TITLE_CHARACTERS_MAX), nullable=False),
    Column("titled_by", Integer, nullable=False),  # the number of the item whose words the title is; 0: somebody chose it
    Column("is_archived", Boolean, nullable=False), Column("metadata", JSON, nullable=False),
)  # fmt: skip
Index("ix_conversations_owner", conversations.c.tenant, conversations.c.subject, conversations.c.id)

# `number`: the version of the event that added the item, so that items stand in the order in which they were told.
items = Table(
    "items", metadata, Column("conversation", IDENTIFIER, primary_key=True), Column("number", Integer, primary_key=True),
    Column("tenant", IDENTIFIER, nullable=False), Column("id", IDENTIFIER, nullable=False), Column("body", JSON, nullable=False),
    UniqueConstraint("conversation", "id"),
)  # fmt: skip

# What search looks through. `position`: of the event that added the item, so that the newest are found first.
texts = Table(
    "texts", metadata, Column("position", NUMBER, primary_key=True, autoincrement=False), *_owner(),
    Column("conversation", IDENTIFIER, nullable=False), Column("number", Integer, nullable=False),
    Column("words", WORDS, nullable=False), UniqueConstraint("conversation", "number"),
)  # fmt: skip
Index("ix_texts_words", texts.c.words, postgresql_using="gin").ddl_if(dialect="postgresql")
Index("ix_texts_owner", texts.c.tenant, texts.c.subject, texts.c.position)

# Responses as they are read: `input` the items that were given, `body` the response object; `is_open` until its end was told.
responses = Table(
    "responses", metadata, Column("id", IDENTIFIER, primary_key=True), *_owner(), Column("previous", IDENTIFIER),
    Column("is_background", Boolean, nullable=False), Column("is_open", Boolean, nullable=False),
    Column("input", JSON, nullable=False), Column("body", JSON, nullable=False),
)  # fmt: skip
Index("ix_responses_owner", responses.c.tenant, responses.c.subject, responses.c.id)
Index("ix_responses_open", responses.c.is_open, responses.c.id)

# Responses that are made in the background; no projection: a row is work, and gone when it is done. `caller`: on whose behalf; `chat`: the
# body of the chat completion; `behind`: how many items have names already; `holder` has it until `until`; `attempt` grows with each.
response_runs = Table(
    "response_runs", metadata, Column("id", IDENTIFIER, primary_key=True), *_owner(), Column("caller", JSON, nullable=False),
    Column("fields", JSON, nullable=False), Column("chat", Text, nullable=False), Column("behind", Integer, nullable=False),
    Column("holder", IDENTIFIER, nullable=False), Column("until", Float(53), nullable=False),
    Column("attempt", Integer, nullable=False), Column("queued_at", Float(53), nullable=False),
)  # fmt: skip
Index("ix_response_runs_until", response_runs.c.until)
Index("ix_response_runs_tenant", response_runs.c.tenant)

# The stream of a response in the background, a row for what was sent together: events `first` to `last`, one a line.
response_events = Table(
    "response_events", metadata, Column("response", IDENTIFIER, primary_key=True), Column("first", Integer, primary_key=True),
    Column("last", Integer, nullable=False), Column("lines", Text, nullable=False), Column("at", Float(53), nullable=False),
)  # fmt: skip
Index("ix_response_events_at", response_events.c.at)

outbox, outbox_lease = outbox_tables(metadata)
