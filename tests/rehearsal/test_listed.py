"""docs/faults.md and the rehearsals say the same: every row names a test that is there, and every rehearsal that records is named."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "faults.md").read_text()
ROWS = re.findall(r"^\| (\d+) \|(.*)\|$", PAGE, re.MULTILINE)
NAMED = re.compile(r"`(test_\w+)`")
TESTS = {
    name: path
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
}
RESULTS = ROOT / "bench" / "results" / "faults.json"


@pytest.mark.parametrize(("row", "rest"), ROWS)
def test_every_row_of_the_page_names_tests_that_exist(row: str, rest: str) -> None:
    cells = [cell.strip() for cell in rest.split("|")]
    assert len(cells) == 4, "row, fault, asked, measured, rehearsed by"
    assert all(cells), "nothing is left open"
    named = NAMED.findall(cells[3])
    assert named, "it is rehearsed by a test"
    assert [name for name in named if name not in TESTS] == []


def test_every_test_that_records_a_figure_is_on_the_page() -> None:
    on_the_page = set(NAMED.findall(PAGE))
    for path in (ROOT / "tests" / "rehearsal").glob("test_*.py"):
        for function in re.split(r"^(?=(?:async )?def )", path.read_text(), flags=re.MULTILINE):
            found = re.match(r"(?:async )?def (test_\w+)", function)
            if found and re.search(r"^ +record\(", function, re.MULTILINE):
                assert found[1] in on_the_page, path.name


def test_every_recorded_row_is_on_the_page() -> None:
    if RESULTS.exists():
        figures = json.loads(RESULTS.read_text())["figures"]
        assert {str(one["row"]) for one in figures} <= {row for row, _ in ROWS}
