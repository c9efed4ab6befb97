"""`cordee config` says right or wrong by its exit code, and shows a file that loads to the same."""

from __future__ import annotations

import argparse
import tomllib

import pytest

from cordee.cli import config
from cordee.config.load import load
from cordee.config.tree import Config


@pytest.fixture
def cordee(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("CORDEE_MODEL", "CORDEE_CONFIG", "CORDEE_DATA"):
        monkeypatch.delenv(name, raising=False)

    def run(*argv: str) -> int:
        parser = argparse.ArgumentParser()
        config.add(parser.add_subparsers())
        args = parser.parse_args(["config", *argv])
        code: int = args.run(args)
        return code

    return run


def test_the_defaults_shown_are_a_file_that_loads_to_the_defaults(cordee, tmp_path, capsys):
    assert cordee("show", "--defaults") == 0
    text = capsys.readouterr().out
    file = tmp_path / "shown.toml"
    file.write_text(text)
    assert load(file, tmp_path, environ={}) == Config()
    assert tomllib.loads(text)["engine"]["slots"] == Config().engine.slots
    assert "# seconds; a number above 0" in text


def test_what_is_configured_is_shown_with_where_it_comes_from(cordee, tmp_path, capsys, monkeypatch):
    (tmp_path / "cordee.toml").write_text('model = "é \\" \\\\"\n[engine]\nslots = 3\n')
    monkeypatch.setenv("CORDEE_SERVERS", "5")
    assert cordee("show", "--data", str(tmp_path)) == 0
    text = capsys.readouterr().out
    assert tomllib.loads(text)["model"] == 'é " \\'
    assert "slots = 3" in text
    assert f"from {tmp_path}/cordee.toml, line 3" in text
    assert "from environment variable CORDEE_SERVERS" in text


def test_checking_a_right_file_ends_with_0_and_a_wrong_one_with_2(cordee, tmp_path, capsys):
    file = tmp_path / "one.toml"
    file.write_text("servers = 3")
    assert cordee("check", str(file)) == 0
    assert "1 of" in capsys.readouterr().out
    file.write_text("servers = 0")
    assert cordee("check", str(file)) == 2
    assert "line 1: servers = 0 is not allowed" in capsys.readouterr().err
