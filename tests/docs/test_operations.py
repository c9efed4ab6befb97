"""The table of what works without what names rehearsals that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
HEADING = "## What works without what"


def rows() -> list[list[str]]:
    table = PAGE.split(HEADING, 1)[1].split("\n## ", 1)[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_table_has_rows_of_four_cells() -> None:
    assert rows()
    assert all(len(row) == 4 and all(row) for row in rows())


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_each_row_names_a_rehearsal_that_there_is(row: list[str]) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row[3])
    assert named, f"{row[0]}: name the test as `tests/….py::test_…`"
    for file, test in named:
        tree = ast.parse((ROOT / file).read_text())
        defined = {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert test in defined, f"{file} has no {test}"
