"""Who people are at providers outside, and those who are signing in there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

IDENTIFIER = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "outside_identities",
        sa.Column("issuer", sa.String(length=512), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("user_id", IDENTIFIER, nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_outside_identities_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("issuer", "subject", name=op.f("pk_outside_identities")),
    )
    op.create_index(op.f("ix_outside_identities_user_id"), "outside_identities", ["user_id"], unique=False)
    op.create_table(
        "outside_sign_ins",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("browser", sa.String(length=64), nullable=False),
        sa.Column("asked", sa.JSON(), nullable=False),
        sa.Column("expires_at", sa.Float(precision=53), nullable=False),
        sa.Column("user_id", IDENTIFIER, nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_outside_sign_ins_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_outside_sign_ins")),
    )
    op.create_index(op.f("ix_outside_sign_ins_user_id"), "outside_sign_ins", ["user_id"], unique=False)
    op.create_index("ix_outside_sign_ins_expires_at", "outside_sign_ins", ["expires_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_outside_sign_ins_expires_at", table_name="outside_sign_ins")
    op.drop_index(op.f("ix_outside_sign_ins_user_id"), table_name="outside_sign_ins")
    op.drop_table("outside_sign_ins")
    op.drop_index(op.f("ix_outside_identities_user_id"), table_name="outside_identities")
    op.drop_table("outside_identities")
