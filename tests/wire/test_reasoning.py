from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.wire.reasoning import THINK, CountedText, Marks, Splitter, marks_of


def split(*pieces: str, is_opened: bool = False, marks: Marks = THINK) -> tuple[str, str]:
    thoughts: list[str] = []
    said: list[str] = []
    splitter = Splitter(marks, thoughts.append, said.append, is_opened=is_opened)
    for piece in pieces:
        splitter.push(piece)
    splitter.end()
    return "".join(thoughts), "".join(said)


@pytest.mark.parametrize(
    ("text", "is_opened", "expected"),
    [
        ("<think>\nHm.\n\nYes.\n</think>\n\nFour.\n", False, ("Hm.\n\nYes.", "Four.\n")),
        ("Hm.\n</think>\nFour.", True, ("Hm.", "Four.")),
        ("<think>for ever", False, ("for ever", "")), ("for ever ", True, ("for ever", "")),
        ("Four.", False, ("", "Four.")), ("  <think", False, ("", "  <think")), ("a <think> b</think>", False, ("", "a <think> b</think>")),
        ("<think>\n\n</think>\n\nFour.", False, ("", "Four.")), ("<think>a < b </thin</think>c", False, ("a < b </thin", "c")),
        ("", False, ("", "")), ("\n ", False, ("", "\n ")),
    ],
)  # fmt: skip
def test_thoughts_and_answer_are_told_apart(text, is_opened, expected):
    assert split(text, is_opened=is_opened) == split(*text, is_opened=is_opened) == expected


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<", "/", "think", ">", " ", "\n", "a", "b"]), max_size=12),
    st.lists(st.integers(0, 60), max_size=5), st.booleans(),
)  # fmt: skip
def test_the_same_comes_out_however_the_text_is_cut(words, cuts, is_opened):
    text = "".join(words)
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[a:b] for a, b in pairwise(places)]
    assert split(text, is_opened=is_opened) == split(*pieces, is_opened=is_opened) == split(*text, is_opened=is_opened)


def counted(*pieces: str, is_opened: bool = False) -> int:
    text = CountedText(lambda token: pieces[token].encode(), (), THINK, is_opened=is_opened)
    for token in range(len(pieces)):
        text.push(token)
    return text.thoughts


def test_tokens_of_thoughts_are_counted_with_their_marks():
    assert counted("<think>", "a", "b", "</think>", "c", "d") == 4
    assert counted("a", "b", "</think>", "c", is_opened=True) == 3
    assert counted("\n", "a", "b") == 0


def test_a_template_tells_its_marks():
    assert marks_of("{{ content.split('</think>')[-1] }}") is THINK
    assert marks_of("[THINK]…[/THINK]") == Marks("[THINK]", "[/THINK]")
    assert marks_of("nothing") is None
