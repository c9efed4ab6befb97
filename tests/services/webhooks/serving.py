"""The webhooks service as uvicorn's factory, for tests that want a real process: CORDEE_TEST_DATA names its data directory."""

from __future__ import annotations

import os
import time
from pathlib import Path

from fastapi import FastAPI

from cordee.config.sections.services import Webhooks
from cordee.services.base.database import connect
from cordee.services.base.ground import Ground
from cordee.services.base.nobody import Nobody
from cordee.services.base.outbox import MemoryPublisher
from cordee.services.webhooks.app import NAME, create
from tests.services.webhooks.conftest import SECRET

DATA = "CORDEE_TEST_DATA"
SETTINGS = Webhooks(
    allow_private=("127.0.0.1",), retry_s=(0.5,) * 50, poll_s=0.1, answer_s=1.0, connect_s=0.5, lease_s=2.0
)


def make() -> FastAPI:
    data = Path(os.environ[DATA])
    ground = Ground(data, SECRET, Nobody(), MemoryPublisher(), time.time)
    return create(SETTINGS, connect(SETTINGS.database, NAME, data), ground)
