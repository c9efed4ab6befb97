"""Log lines: key=value, and the one word that scripts wait for."""

import io
import logging

from cordee.supervisor.events import Event
from cordee.supervisor.lines import Lines


def test_values_that_need_it_are_quoted() -> None:
    event = Event(
        "died", "worker-1", (("signal", "SIGKILL"), ("why", 'a "b" c'), ("wait_s", 0.1), ("new\nline", "x\ny"))
    )
    assert event.line().startswith('event=died name=worker-1 signal=SIGKILL why="a \\"b\\" c" wait_s=0.1')
    assert "\n" not in event.line().removeprefix("event=died").replace("new\nline", "")


def test_ready_stands_on_a_line_of_its_own() -> None:
    out = io.StringIO()
    lines = Lines(out, "info")
    lines(Event("started", "web-1"))
    lines(Event("all-ready"))
    assert out.getvalue().splitlines()[-1] == "ready"
    assert out.getvalue().count("\nready\n") == 1


def test_ready_is_said_at_any_log_level() -> None:
    out = io.StringIO()
    lines = Lines(out, "error")
    lines(Event("started", "web-1"))
    lines(Event("all-ready"))
    assert out.getvalue() == "ready\n"
    lines(Event("given-up", "web-1", level=logging.ERROR))
    assert "level=error event=given-up name=web-1" in out.getvalue()


def test_a_reader_that_has_gone_does_not_end_the_platform() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    Lines(Gone(), "info")(Event("started"))
