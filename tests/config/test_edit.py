"""A file is changed where it must be and nowhere else."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.config.edit import with_numbers
from cordee.config.file import ConfigError

FILE = Path("cordee.toml")


def test_comments_order_and_other_tables_stay() -> None:
    before = "# mine\nservers = 2\n[engine] # fast\nslots = 16  # enough\nexact = true\n\n[web]\n# slots = 3\n"
    after = with_numbers(FILE, before, "engine", {"slots": 8, "threads": 2})
    assert after == before.replace("slots = 16", "slots = 8").replace("# fast\n", "# fast\nthreads = 2\n")


def test_a_table_that_is_not_there_is_added() -> None:
    assert with_numbers(FILE, "", "engine", {"slots": 8}) == "[engine]\nslots = 8\n"
    assert with_numbers(FILE, "servers = 2", "engine", {"slots": 8}) == "servers = 2\n\n[engine]\nslots = 8\n"


def test_dotted_keys_are_followed() -> None:
    assert with_numbers(FILE, "engine.slots = 1_6 # x\n", "engine", {"slots": 8}) == "engine.slots = 8 # x\n"


@pytest.mark.parametrize("text", ["engine = { slots = 16 }\n", 'note = """\n[engine]\nslots = 16\n"""\n'])
def test_what_cannot_be_changed_safely_is_left_to_its_owner(text: str) -> None:
    with pytest.raises(ConfigError, match="by hand"):
        with_numbers(FILE, text, "engine", {"slots": 8})


def test_json_is_left_to_its_owner() -> None:
    with pytest.raises(ConfigError, match="only TOML"):
        with_numbers(Path("cordee.json"), "{}", "engine", {"slots": 8})


@given(st.dictionaries(st.sampled_from(["slots", "threads", "ubatch"]), st.integers(0, 999), min_size=1), st.booleans())
def test_what_is_written_is_what_is_read(numbers: dict[str, int], has_table: bool) -> None:
    before = "[engine]\nslots = 1\n" if has_table else ""
    after = with_numbers(FILE, before, "engine", numbers)
    expected = ({"slots": 1} if has_table else {}) | numbers
    assert tomllib.loads(after)["engine"] == expected
    assert with_numbers(FILE, after, "engine", numbers) == after
