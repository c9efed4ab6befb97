from __future__ import annotations

import logging

import pytest

from cordee.compose.logs import configure

FORGED = "\n2026-01-01T00:00:00.000 INFO    cordee: all is well"


@pytest.fixture
def root():
    """The root logger as it was, afterwards."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.mark.parametrize("said", [f"a{FORGED}", "a\r\nb", "\x1b[2J\x1b[1;1H", "a\x00b", "\u202eabc", "a\x85b\u2028c"])
def test_what_comes_from_outside_stays_on_its_line_and_steers_nothing(root: logging.Logger, capsys, said: str):
    configure("info")
    root.warning("somebody said %s", said)
    [line] = capsys.readouterr().err.splitlines()
    assert line.isprintable()


def test_the_trace_of_an_exception_cannot_be_taken_for_another_event(root: logging.Logger, capsys):
    configure("info")
    try:
        raise ValueError(f"{FORGED}\x1b[2J")
    except ValueError as error:
        root.error("it failed", exc_info=error)
    first, *trace = capsys.readouterr().err.rstrip("\n").split("\n")
    assert first.endswith("it failed")
    assert any("Traceback" in line for line in trace)
    assert any("all is well" in line for line in trace)
    assert all(line.startswith("    ") and line.isprintable() for line in trace)
