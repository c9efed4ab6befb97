"""What gateways follow, and devices that wait for our own command line."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

IDENTIFIER = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
EPOCH_BYTES = 16
KINDS = {"tenants": "tenant", "users": "principal", "applications": "principal", "api_keys": "key"}


def upgrade() -> None:
    clock = op.create_table(
        "feed_clock",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("floor", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feed_clock")),
    )
    op.create_table(
        "changes",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", IDENTIFIER, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", name=op.f("pk_changes")),
    )
    op.create_index(op.f("ix_changes_revision"), "changes", ["revision"], unique=False)
    # Who was there before is told first, a revision each, so that no page of the feed is longer than others.
    known = 0
    for table, kind in KINDS.items():
        made = sa.text(
            f"INSERT INTO changes (kind, name, revision, at) "  # names of tables, above
            f"SELECT '{kind}', id, :known + ROW_NUMBER() OVER (ORDER BY id), 0 FROM {table}"
        )
        op.get_bind().execute(made, {"known": known})
        known = op.get_bind().execute(sa.text("SELECT COALESCE(MAX(revision), 0) FROM changes")).scalar_one()
    op.bulk_insert(clock, [{"id": 1, "epoch": secrets.token_hex(EPOCH_BYTES), "revision": known, "floor": 0}])
    with op.batch_alter_table("devices") as devices:
        devices.alter_column("application_id", existing_type=IDENTIFIER, nullable=True)


def downgrade() -> None:
    op.execute(sa.text("DELETE FROM devices WHERE application_id IS NULL"))
    with op.batch_alter_table("devices") as devices:
        devices.alter_column("application_id", existing_type=IDENTIFIER, nullable=False)
    op.drop_index(op.f("ix_changes_revision"), table_name="changes")
    op.drop_table("changes")
    op.drop_table("feed_clock")
