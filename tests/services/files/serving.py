"""The files service as uvicorn's factory, for tests that want a real process: CORDEE_TEST_DATA names its data directory."""

from __future__ import annotations

import os
import time
from pathlib import Path

from fastapi import FastAPI

from cordee.config.sections.services import Files
from cordee.services.base.database import connect
from cordee.services.base.ground import Ground
from cordee.services.base.nobody import Nobody
from cordee.services.base.outbox import MemoryPublisher
from cordee.services.files.app import NAME, create

DATA = "CORDEE_TEST_DATA"
SECRET = b"s" * 32


def make() -> FastAPI:
    data = Path(os.environ[DATA])
    settings = Files(free_bytes_min=0, writing_s=5, sweep_s=0.2)
    return create(
        settings,
        connect(settings.database, NAME, data),
        Ground(data, SECRET, Nobody(), MemoryPublisher(), time.time),
    )
