"""A key is found on the line where a person wrote it."""

from __future__ import annotations

import pytest

from cordee.config.lines import line_in_json, line_in_toml

TOML = """# comment: slots = 1
servers = 2
link.beat_s = 0.02

[engine]  # the engine
slots = 4
"threads" = 2
[ web ]
address = "a:1"
[deadlines]
"""


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("servers", 2),
        ("link.beat_s", 3),
        ("engine", 5),
        ("engine.slots", 6),
        ("engine.threads", 7),
        ("web.address", 9),
        ("deadlines.total_s", 10),
        ("absent", None),
    ],
)
def test_a_key_is_on_its_line_or_its_tables(key, line):
    assert line_in_toml(TOML, key) == line


def test_a_key_of_an_inline_table_is_on_the_tables_line():
    assert line_in_toml("servers = 1\nengine = { slots = 4, threads = 2 }", "engine.threads") == 2


def test_a_json_key_is_on_the_line_of_its_name_after_its_parents():
    text = '{\n "oracle": {"slots": 1},\n "engine": {\n  "slots": 0}}'
    assert line_in_json(text, "engine.slots") == 4
    assert line_in_json(text, "absent") is None
