"""Templates of files that come from anywhere."""

import sys

import pytest

from cordee.wire.template_check import TEMPLATE_CHARS_MAX, problem


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}{{ eos_token }}",
        "{{ raise_exception('the conversation must begin with a system message') }}",
        "",
    ],
)
def test_a_template_that_renders_or_refuses_in_its_own_words_is_sound(source):
    assert problem(source) == ""


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{% if %}", "not valid"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ messages.__class__.__mro__ }}", "cannot render"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "does not end within"),
        ("{{ 'x' * 3000000 }}", "makes 3000000 characters"),
        ("x" * (TEMPLATE_CHARS_MAX + 1), "characters; at most"),
    ],
)
def test_a_template_that_is_broken_hostile_or_endless_is_named_for_what_it_is(source, says):
    tracing = sys.gettrace()
    assert says in problem(source)
    assert sys.gettrace() is tracing, "whoever was tracing goes on"
