"""Whether the chat template of a model file can be used: it compiles in the sandbox, and a short chat comes out in bounded work.

A template is a program that came with the file. The sandbox keeps it from doing harm, but not from never ending, so the lines it
runs are counted.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import jinja2

from cordee.wire.errors import Invalid
from cordee.wire.template import environment

TEMPLATE_CHARS_MAX = 1024 * 1024  # the longest in use have some ten thousand
LINES_MAX = 200_000  # of compiled template for a chat of one line; real ones take some hundred
OUTPUT_CHARS_MAX = 1024 * 1024
PROBE = ({"role": "user", "content": "Hello."},)


def problem(source: str) -> str:
    """What is wrong with a template, "" where nothing is. One that refuses the probe in words of its own is sound."""
    if len(source) > TEMPLATE_CHARS_MAX:
        return f"the chat template has {len(source)} characters; at most {TEMPLATE_CHARS_MAX} are allowed"
    try:
        template = environment().from_string(source)
    except jinja2.TemplateError as error:
        return f"the chat template is not valid: {error}"
    before = sys.gettrace()
    sys.settrace(_Count(LINES_MAX))
    try:
        text = template.render(
            messages=PROBE, add_generation_prompt=True, tools=None, documents=None, bos_token="", eos_token=""
        )
    except Invalid:
        return ""  # it wants another kind of chat, and says so
    except _TooLong:
        return f"the chat template does not end within {LINES_MAX} steps for a chat of one line"
    except Exception as error:  # somebody else's program: whatever it raises is about itself
        return f"the chat template cannot render a chat of one line: {error}"
    finally:
        sys.settrace(before)
    if len(text) > OUTPUT_CHARS_MAX:
        return f"the chat template makes {len(text)} characters of a chat of one line"
    return ""


class _TooLong(BaseException):
    """Not an Exception: nothing inside a template may catch it."""


class _Count:
    """A trace function for one thread: the lines that may still be run."""

    def __init__(self, left: int) -> None:
        self._left = left

    def __call__(self, frame: FrameType, event: str, argument: Any) -> _Count:
        self._left -= 1
        if self._left < 0:
            raise _TooLong
        return self
