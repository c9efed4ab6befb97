"""The chats service as uvicorn's factory, for tests that want a real process: CORDEE_TEST_DATA names its data directory."""

from __future__ import annotations

import os
import time
from pathlib import Path

from fastapi import FastAPI

from cordee.config.sections.services import Chats
from cordee.services.base.database import connect
from cordee.services.base.ground import Ground
from cordee.services.base.outbox import MemoryPublisher
from cordee.services.chats.app import NAME, create
from tests.services.chats.conftest import SECRET, Door

DATA = "CORDEE_TEST_DATA"


def make() -> FastAPI:
    data, settings = Path(os.environ[DATA]), Chats()
    ground = Ground(data, SECRET, Door(), MemoryPublisher(), time.time)
    return create(settings, connect(settings.database, NAME, data), ground)
