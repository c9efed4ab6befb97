"""The accounts service as uvicorn's factory, for tests that want a real process: CORDEE_TEST_DATA names its data directory."""

from __future__ import annotations

import os
from pathlib import Path

from fastapi import FastAPI

from cordee.config.sections.services import Accounts, Passwords
from cordee.services.accounts.app import NAME, SECRET_FILE, create
from cordee.services.base.database import connect
from cordee.services.base.seal import secret_of

DATA = "CORDEE_TEST_DATA"


def make() -> FastAPI:
    data = Path(os.environ[DATA])
    settings = Accounts(passwords=Passwords(memory_kib=8, passes=1, lanes=1))
    return create(settings, connect(settings.database, NAME, data), secret_of(data / "services" / SECRET_FILE))
