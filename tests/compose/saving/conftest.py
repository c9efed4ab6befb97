"""What is saved, and where PostgreSQL is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.compose.saving.installation import everything, made, words
from tests.postgres import NoPostgresError, postgres


@pytest.fixture(scope="package")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What an installation holds, and its backup."""
    data = tmp_path_factory.mktemp("origin") / "data"
    config = made(data)
    archive = data.parent / "backup.tar.gz"
    assert words("backup", archive, "--data", data) == 0
    return everything(config, data), archive


@pytest.fixture(scope="package")
def postgres_url() -> Iterator[str]:
    try:
        with postgres() as url:
            yield url
    except NoPostgresError as error:
        pytest.skip(str(error))
