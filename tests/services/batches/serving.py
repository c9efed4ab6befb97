"""The batches service as uvicorn's factory, over doubles of the gateways: CORDEE_TEST_DATA names its data directory."""

from __future__ import annotations

import os
import time
from pathlib import Path

from fastapi import FastAPI

from cordee.services.base.database import connect
from cordee.services.base.ground import Ground
from cordee.services.base.outbox import MemoryPublisher
from cordee.services.batches.app import NAME, create
from tests.services.batches.conftest import QUICK, SECRET
from tests.services.batches.doubles import Gateways, request

DATA = "CORDEE_TEST_DATA"


def make() -> FastAPI:
    data = Path(os.environ[DATA])
    door = Gateways()
    door.upload("file-in", *(request(f"r{n}") for n in range(3)))
    return create(QUICK, connect(QUICK.database, NAME, data), Ground(data, SECRET, door, MemoryPublisher(), time.time))
