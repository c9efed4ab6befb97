"""Contents, files, uploads, parts, what tenants have, and the outbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

IDENTIFIER = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "blobs",
        sa.Column("name", IDENTIFIER, nullable=False),
        sa.Column("tenant", IDENTIFIER, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("until", sa.Float(precision=53), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("master", sa.String(length=16), nullable=True),
        sa.Column("wrapped", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_blobs")),
    )
    op.create_index("ix_blobs_state", "blobs", ["state", "until"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
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
        "uploads",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("tenant", IDENTIFIER, nullable=False),
        sa.Column("subject", IDENTIFIER, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("purpose", sa.String(length=32), nullable=False),
        sa.Column("media_type", sa.String(length=128), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("expires_at", sa.Float(precision=53), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("kept_s", sa.Integer(), nullable=True),
        sa.Column("file_id", IDENTIFIER, nullable=True),
        sa.Column("part_ids", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_index("ix_uploads_owner", "uploads", ["tenant", "subject", "id"], unique=False)
    op.create_index("ix_uploads_status", "uploads", ["status", "expires_at"], unique=False)
    op.create_table(
        "usage",
        sa.Column("tenant", IDENTIFIER, nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", name=op.f("pk_usage")),
    )
    op.create_table(
        "files",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("tenant", IDENTIFIER, nullable=False),
        sa.Column("subject", IDENTIFIER, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("purpose", sa.String(length=32), nullable=False),
        sa.Column("media_type", sa.String(length=128), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("expires_at", sa.Float(precision=53), nullable=True),
        sa.Column("blob", IDENTIFIER, nullable=False),
        sa.Column("request", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["blob"], ["blobs.name"], name=op.f("fk_files_blob")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_files")),
        sa.UniqueConstraint("blob", name=op.f("uq_files_blob")),
        sa.UniqueConstraint("request", name=op.f("uq_files_request")),
    )
    op.create_index("ix_files_expires_at", "files", ["expires_at"], unique=False)
    op.create_index("ix_files_owner", "files", ["tenant", "subject", "id"], unique=False)
    op.create_table(
        "parts",
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("upload_id", IDENTIFIER, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("blob", IDENTIFIER, nullable=False),
        sa.ForeignKeyConstraint(["blob"], ["blobs.name"], name=op.f("fk_parts_blob")),
        sa.ForeignKeyConstraint(["upload_id"], ["uploads.id"], name=op.f("fk_parts_upload_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_parts")),
        sa.UniqueConstraint("blob", name=op.f("uq_parts_blob")),
    )
    op.create_index(op.f("ix_parts_upload_id"), "parts", ["upload_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_parts_upload_id"), table_name="parts")
    op.drop_table("parts")
    op.drop_index("ix_files_owner", table_name="files")
    op.drop_index("ix_files_expires_at", table_name="files")
    op.drop_table("files")
    op.drop_table("usage")
    op.drop_index("ix_uploads_status", table_name="uploads")
    op.drop_index("ix_uploads_owner", table_name="uploads")
    op.drop_table("uploads")
    op.drop_table("outbox_lease")
    op.drop_index(
        "outbox_unsent",
        table_name="outbox",
        sqlite_where=sa.text("sent_at IS NULL"),
        postgresql_where=sa.text("sent_at IS NULL"),
    )
    op.drop_index("outbox_sent", table_name="outbox")
    op.drop_table("outbox")
    op.drop_index("ix_blobs_state", table_name="blobs")
    op.drop_table("blobs")
