"""The tables of files, as the newest revision in migrations/ leaves them; a test compares the two."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Float, ForeignKey, Index, Integer, LargeBinary, MetaData, String, Table

from cordee.services.base.database import IDENTIFIER
from cordee.services.base.outbox import tables as outbox_tables

DIGEST = String(64)
TIME = Float(53)
BYTES = BigInteger()
NAMES = {"ix": "ix_%(table_name)s_%(column_0_name)s", "uq": "uq_%(table_name)s_%(column_0_name)s",
         "fk": "fk_%(table_name)s_%(column_0_name)s", "pk": "pk_%(table_name)s", "ck": "ck_%(table_name)s_%(constraint_name)s"}  # fmt: skip

metadata = MetaData(naming_convention=NAMES)


def _id(name: str = "id") -> Column[str]:
    return Column(name, IDENTIFIER, primary_key=True)


def _time(name: str, nullable: bool = False) -> Column[float]:
    return Column(name, TIME, nullable=nullable)


def _said() -> tuple[Column[str], ...]:
    """What a client says of a file, and whose it is."""
    return (
        Column("tenant", IDENTIFIER, nullable=False), Column("subject", IDENTIFIER, nullable=False),
        Column("name", String(255), nullable=False), Column("purpose", String(32), nullable=False),
        Column("media_type", String(128), nullable=False),
    )  # fmt: skip


# Every content that is in storage, or may be: written down before its first byte is written, forgotten after its last one is gone.
blobs = Table(
    "blobs", metadata, _id("name"), Column("tenant", IDENTIFIER, nullable=False),
    Column("state", String(16), nullable=False), _time("until"), Column("size", BYTES, nullable=False),
    Column("master", String(16)), Column("wrapped", LargeBinary),
)  # fmt: skip

files = Table(
    "files", metadata, _id(), *_said(), Column("size", BYTES, nullable=False),
    Column("sha256", DIGEST, nullable=False), _time("created_at"), _time("expires_at", nullable=True),
    Column("blob", IDENTIFIER, ForeignKey("blobs.name"), nullable=False, unique=True),
    # Under which a repeat of the same request finds the file that the first one made (a digest; NULL where none was said).
    Column("request", DIGEST, unique=True),
)  # fmt: skip

uploads = Table(
    "uploads", metadata, _id(), *_said(), Column("size", BYTES, nullable=False), _time("created_at"),
    _time("expires_at"), Column("status", String(16), nullable=False), Column("kept_s", Integer),
    Column("file_id", IDENTIFIER), Column("part_ids", JSON, nullable=False),
)  # fmt: skip

parts = Table(
    "parts", metadata, _id(),
    Column("upload_id", IDENTIFIER, ForeignKey("uploads.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("size", BYTES, nullable=False), _time("created_at"),
    Column("blob", IDENTIFIER, ForeignKey("blobs.name"), nullable=False, unique=True),
)  # fmt: skip

# What a tenant has: its files, and what its pending uploads have announced.
usage = Table(
    "usage", metadata, _id("tenant"), Column("bytes", BYTES, nullable=False), Column("files", Integer, nullable=False)
)

outbox, outbox_lease = outbox_tables(metadata)

Index("ix_blobs_state", blobs.c.state, blobs.c.until)
Index("ix_files_owner", files.c.tenant, files.c.subject, files.c.id)
Index("ix_files_expires_at", files.c.expires_at)
Index("ix_uploads_owner", uploads.c.tenant, uploads.c.subject, uploads.c.id)
Index("ix_uploads_status", uploads.c.status, uploads.c.expires_at)
