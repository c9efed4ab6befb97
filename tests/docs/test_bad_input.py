"""The tables of what bad input gets name tests that there are."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "bad-input.md").read_text()
HEAD = "| what comes | what it gets | shown by |"


def rows() -> list[list[str]]:
    """The cells of every row of every table."""
    lines = [line for line in PAGE.splitlines() if line.startswith("|") and line != HEAD and set(line) != set("|-")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@cache
def defined(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text())
    return frozenset(one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))


def test_the_tables_have_rows_of_three_cells() -> None:
    assert len(rows()) > 30
    assert [row for row in rows() if len(row) != 3 or not all(row)] == []


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:60])
def test_each_row_names_tests_that_there_are(row: list[str]) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row[2])
    assert named, f"{row[0]}: name a test as `tests/….py::test_…`"
    assert len(named) == row[2].count("`") // 2, f"{row[2]}: what is named is no test"
    assert [f"{file}::{test}" for file, test in named if test not in defined(file)] == []
