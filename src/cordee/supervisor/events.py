"""What happens to processes, for whoever shows it: the log lines or the screen. Facts with names, not sentences."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Event:
    """`what` happened to `name` ("" for the platform as a whole); `detail` in the order to be shown; `level` of logging."""

    what: str
    name: str = ""
    detail: tuple[tuple[str, object], ...] = field(default=())
    level: int = logging.INFO

    def line(self) -> str:
        """key=value, values with spaces or quotes in quotes."""
        facts = (("event", self.what), *((("name", self.name),) if self.name else ()), *self.detail)
        return " ".join(f"{key}={_quoted(value)}" for key, value in facts)

    def sentence(self) -> str:
        """The same for a person: whom it happened to first."""
        facts = " ".join(f"{key}={_quoted(value)}" for key, value in self.detail)
        return f"{self.name or 'the platform'}: {self.what}" + (f" ({facts})" if facts else "")


Listener = Callable[[Event], None]


def _quoted(value: object) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    text = "".join(c if c.isprintable() else " " for c in text)
    if text and not any(c in text for c in ' "='):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
