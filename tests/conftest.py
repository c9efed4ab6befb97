"""What holds for all tests: a machine that is busy with something else must not fail a property, and no time is lost on rubbish."""

from __future__ import annotations

import gc

import pytest
from hypothesis import settings

settings.register_profile("cordee", deadline=None)
settings.load_profile("cordee")

gc.disable()  # while modules are imported and tests are listed, of which all stays


def pytest_collection_finish(session: pytest.Session) -> None:
    """From here on the collector runs as in production, but does not look through all modules and tests again and again."""
    gc.freeze()
    gc.enable()
