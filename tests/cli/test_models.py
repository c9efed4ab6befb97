"""`cordee models` says what is here, and ends with 1 and the cure where something is not."""

from __future__ import annotations

import argparse

import pytest

from cordee.cli import models
from tests.kernels.gguf_files import sound


@pytest.fixture
def cordee(tmp_path, monkeypatch):
    monkeypatch.setenv("CORDEE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(*argv: str) -> int:
        parser = argparse.ArgumentParser()
        models.add(parser.add_subparsers())
        args = parser.parse_args(["models", *argv])
        code: int = args.run(args)
        return code

    return run


def test_the_list_names_the_catalogue_and_the_oracle(cordee, capsys):
    assert cordee("list") == 0
    text = capsys.readouterr().out
    assert "smollm2-135m-instruct" in text
    assert "oracle" in text
    assert "not fetched yet" in text


def test_a_sound_file_is_right_and_a_cut_one_is_not(cordee, tmp_path, capsys):
    file = tmp_path / "m.gguf"
    file.write_bytes(sound())
    assert cordee("verify", str(file)) == 0
    assert "which nothing pins" in capsys.readouterr().out
    file.write_bytes(sound()[:-1])
    assert cordee("verify", str(file)) == 1
    assert "truncated" in capsys.readouterr().err


def test_the_oracle_needs_no_file_and_no_library(cordee, capsys):
    assert cordee("pull", "oracle", "--data", "d") == 0
    assert cordee("verify", "oracle", "--data", "d") == 0
    assert "needs no file" in capsys.readouterr().out


def test_an_absent_model_ends_with_1_and_the_command_that_fetches_it(cordee, capsys):
    assert cordee("verify", "--data", "d") == 1
    assert "cordee models pull smollm2-135m-instruct" in capsys.readouterr().err
