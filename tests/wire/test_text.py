from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cordee.wire.text import Text

FEW = st.text("ab\n é😀", max_size=30)
STOPS = st.lists(st.text("ab\n é", min_size=1, max_size=4), min_size=1, max_size=3)


def pushed(pieces: list[bytes], stops: tuple[str, ...] = ()) -> tuple[list[str], Text]:
    """What each token makes certain, and what the end adds, as far as a client gets it."""
    text = Text(lambda token: pieces[token], stops)
    out = []
    for token in range(len(pieces)):
        out.append(text.push(token))
        if text.is_stopped:
            return out, text
    out.append(text.end())
    return out, text


@st.composite
def cut(draw, data: bytes) -> list[bytes]:
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def until_stop(text: str, stops: list[str]) -> str:
    """What a client may see: everything before the stop string that is complete first, the longest of those."""
    found = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    return text[: min(found)[1]] if found else text


@given(st.data(), FEW)
def test_any_split_of_utf_8_gives_the_text(data, text):
    assert "".join(pushed(data.draw(cut(text.encode())))[0]) == text


@given(st.data(), FEW, st.text("ab\n é", min_size=1, max_size=4))
def test_one_stop_string_cuts_where_find_would(data, text, stop):
    at = text.find(stop)
    got, state = pushed(data.draw(cut(text.encode())), (stop,))
    assert "".join(got) == (text if at < 0 else text[:at])
    assert state.is_stopped == (at >= 0)


@given(st.data(), FEW, STOPS)
def test_several_stop_strings_cut_alike_however_the_text_is_split(data, text, stops):
    got, state = pushed(data.draw(cut(text.encode())), tuple(stops))
    assert "".join(got) == until_stop(text, stops)
    assert state.is_stopped == any(stop in text for stop in stops)


@given(st.data(), FEW, STOPS)
def test_nothing_is_held_back_longer_than_it_might_be_a_stop_string(data, text, stops):
    pieces = data.draw(cut(text.encode()))
    state = Text(lambda token: pieces[token], tuple(stops))
    seen, arrived = "", b""
    for token, piece in enumerate(pieces):
        seen += state.push(token)
        arrived += piece
        if state.is_stopped:
            return
        whole = arrived.decode("utf-8", "ignore")
        held = whole[len(seen) :]
        assert whole.startswith(seen)
        assert not held or any(stop.startswith(held) for stop in stops)


@given(st.data(), st.binary(max_size=20))
def test_bytes_that_are_no_text_become_what_python_makes_of_them(data, garbage):
    assert "".join(pushed(data.draw(cut(garbage)))[0]) == garbage.decode("utf-8", "replace")


def test_half_a_character_is_held_back_and_replaced_at_the_end():
    got, _ = pushed([b"a", "é".encode()[:1]])
    assert got == ["a", "", "\ufffd"]


def test_a_token_without_text_changes_nothing():
    got, _ = pushed([b"", b"a", b"", b"b"], ("bc",))
    assert got == ["", "a", "", "", "b"]


def test_a_stop_string_across_tokens_is_never_seen():
    got, state = pushed([b"one <", b"|en", b"d|", b"> two"], ("<|end|>",))
    assert got == ["one ", "", "", ""]
    assert state.is_stopped
