from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cordee.adapters.model_sources import ModelError
from cordee.adapters.vocabulary import OracleVocabulary, open_vocabulary
from cordee.ports import Vocabulary
from tests.engine.real import real_library, real_model


@pytest.fixture(scope="module")
def real() -> Vocabulary:
    real_library()
    return open_vocabulary(str(real_model()), "")


def test_the_oracle_reads_bytes_and_speaks_hexadecimal():
    vocabulary = open_vocabulary("oracle", "")
    assert isinstance(vocabulary, OracleVocabulary)
    assert vocabulary.encode("é!", special=True, start=True).tolist() == [0xC3, 0xA9, 0x21]
    assert vocabulary.piece(0xBEEF) == b"beef "
    assert vocabulary.size == 65536
    assert "assistant: " in vocabulary.chat_template()
    assert vocabulary.template_tokens() == {"bos_token": "", "eos_token": ""}
    assert vocabulary.control_strings() == ()


@pytest.mark.parametrize("token", [-1, 65536])
def test_a_token_outside_the_vocabulary_is_an_index_error(token: int):
    with pytest.raises(IndexError, match=r"0 … 65535"):
        OracleVocabulary().piece(token)


def test_a_library_that_is_not_there_is_named_with_the_cure(tmp_path: Path):
    with pytest.raises(ModelError, match=r"no libllama in .* set engine.library"):
        open_vocabulary(str(tmp_path / "model.gguf"), str(tmp_path))


@pytest.mark.model
def test_text_survives_the_way_there_and_back(real: Vocabulary):
    text = "Grüße aus Chamonix: 🧗 und\tzurück\n  def f(x):"
    assert b"".join(map(real.piece, real.encode(text, special=False))).decode() == text


# This model has no token for the first byte of what is beyond U+3FFFF (unassigned), nor for six control characters.
@pytest.mark.model
@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=("Cc", "Cs"), max_codepoint=0x3FFFF), max_size=60))
def test_any_text_of_assigned_planes_survives(real: Vocabulary, text: str):
    assert b"".join(map(real.piece, real.encode(text, special=False))).decode() == text


@pytest.mark.model
def test_control_strings_are_control_tokens_only_where_they_may_be(real: Vocabulary):
    for control in real.control_strings():
        (token,) = real.encode(control, special=True)
        assert real.piece(token) == b""
        plain = real.encode(control, special=False)
        assert b"".join(map(real.piece, plain)).decode() == control
    assert "<|im_start|>" in real.control_strings()


@pytest.mark.model
def test_the_template_is_the_models_own(real: Vocabulary):
    assert "<|im_start|>" in real.chat_template()
    assert real.template_tokens() == {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    assert real.size == 49152


@pytest.mark.model
def test_pieces_outside_are_index_errors(real: Vocabulary):
    for token in (-1, real.size):
        with pytest.raises(IndexError):
            real.piece(token)


@pytest.mark.model
def test_a_file_that_is_no_model_is_a_clear_error(tmp_path: Path):
    real_library()
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelError, match="could not be loaded as a model"):
        open_vocabulary(str(tmp_path / "bad.gguf"), "")
