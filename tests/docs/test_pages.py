"""What the documents name is there: pages, headings, commands, settings, metrics, configurations, files of the source."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from cordee.cli import PLACES
from cordee.config.describe import settings
from cordee.config.load import load

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/decisions/*.md"))
)
MADE = "docs/configuration.md"  # by a script, from the source
# Old pages say what was so.
PRESENT = [page for page in PAGES if page not in ("CHANGELOG.md", MADE) and "decisions/0" not in page]
SECTIONS = {setting.section.split(".")[0] for setting in settings().values() if setting.section}


def text(page: str) -> str:
    return (ROOT / page).read_text()


def prose(page: str) -> str:
    return re.sub(r"```.*?```", "", text(page), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    wrong = []
    said = re.sub(r"`[^`\n]*`", "", prose(page))  # what looks like a link within code is none
    for target in re.findall(r"\]\(([^)\s]+)\)", said):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        there = (ROOT / page).parent / path if path else ROOT / page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            wrong.append(target)
    assert wrong == []


@pytest.mark.parametrize("page", PRESENT)
def test_every_command_exists(page: str) -> None:
    assert set(re.findall(r"`(?:\.venv/bin/)?cordee ([a-z]+)", text(page))) <= set(PLACES)


@pytest.mark.parametrize("page", PRESENT)
def test_every_setting_exists(page: str) -> None:
    """Settings are written as `section.name`, and only they are, where the first word is a section of ours."""
    named = set(re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?: = [^`]*)?`", prose(page)))
    ours = {
        name for name in named if name.split(".")[0] in SECTIONS and not name.endswith((".json", ".py", ".toml", ".md"))
    }
    assert {
        name for name in ours if name not in settings() and not any(key.startswith(name + ".") for key in settings())
    } == set()


@pytest.mark.parametrize("page", PRESENT)
def test_every_metric_exists(page: str) -> None:
    source = "".join(file.read_text() for file in (ROOT / "src").rglob("*.py"))
    named = set(re.findall(r"`(cordee_[a-z_]+)(?:\{[a-z_,]+\})?`", prose(page)))
    assert {
        name for name in named if f'"{name.removesuffix("_total")}"' not in source and f'"{name}"' not in source
    } == set()


@pytest.mark.parametrize("page", PRESENT)
def test_every_configuration_is_right(page: str, tmp_path: Path) -> None:
    for number, block in enumerate(re.findall(r"```toml\n(.*?)```", text(page), re.DOTALL)):
        file = tmp_path / f"{number}.toml"
        file.write_text(block)
        assert tomllib.loads(block)
        load(file, tmp_path, environ={"HOME": str(tmp_path)})


@pytest.mark.parametrize("page", ["docs/WORDS.md", "docs/ARCHITECTURE.md", "docs/attempts.md", "docs/routing.md"])
def test_every_file_of_the_source_exists(page: str) -> None:
    named = set(re.findall(r"`([a-z_/]+(?:\.py|/))`", prose(page)))
    assert {
        name for name in named if not any((ROOT / top / name).exists() for top in ("src/cordee", "", "tests"))
    } == set()


def test_every_document_is_in_the_index() -> None:
    index = text("docs/README.md")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert {page for page in pages if f"]({page})" not in index} == set()


def test_every_decision_is_in_its_index() -> None:
    index = text("docs/decisions/README.md")
    assert {page.name for page in (ROOT / "docs/decisions").glob("0*.md") if f"]({page.name})" not in index} == set()
