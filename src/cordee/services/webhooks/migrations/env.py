"""Run by Alembic, on the connection that services/base/migrate.py holds."""

from __future__ import annotations

from cordee.services.base.migrate import run

run()
