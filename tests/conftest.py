"""What holds for all tests: a machine that is busy with something else must not fail a property."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("cordee", deadline=None)
settings.load_profile("cordee")
