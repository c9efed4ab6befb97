from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from cordee.cli import worker


def parsed(*args: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    worker.add(parser.add_subparsers())
    return parser.parse_args(["worker", *args])


def test_flags_stand_for_settings():
    args = parsed("--listen", "unix:/x", "--model", "m.gguf", "--slots", "4", "--context", "128", "--threads", "2")
    expected = {"model": "m.gguf", "engine.slots": 4, "engine.context": 128, "engine.threads": 2}
    assert worker.overrides(args) == expected


def test_the_oracle_has_slots_of_its_own():
    args = parsed("--listen", "unix:/x", "--model", "oracle", "--slots", "9")
    assert worker.overrides(args) == {"model": "oracle", "oracle.slots": 9}


def test_no_flag_overrides_nothing():
    assert worker.overrides(parsed("--listen", "unix:/x")) == {}


@pytest.mark.parametrize("extra", [["--slots", "0"], ["--context", "-1"], []])
def test_a_mistake_is_said_on_one_line_and_is_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str]
):
    listen = "unix:/x" if extra else "http://nowhere"
    assert worker.run(parsed("--listen", listen, "--data", str(tmp_path), *extra)) == 2
    said = capsys.readouterr().err
    assert said.startswith("cordee worker: ")
    assert said.count("\n") == 1
