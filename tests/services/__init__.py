"""Tests of the services."""

from __future__ import annotations

import pytest

on_both = pytest.mark.parametrize(
    "database_settings", ["sqlite", pytest.param("postgresql", marks=pytest.mark.e2e)], indirect=True
)
