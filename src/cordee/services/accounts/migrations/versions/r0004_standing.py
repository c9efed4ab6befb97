"""How the calls of a key stand beside others, and how far a tenant lets its calls go. A program of before leaves both empty."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # In the order in which whoever writes takes them.
    op.add_column("tenants", sa.Column("bounds", sa.JSON(), nullable=True))
    op.add_column("api_keys", sa.Column("standing", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("api_keys", "standing")
    op.drop_column("tenants", "bounds")
