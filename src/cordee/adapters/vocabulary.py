"""Port Vocabulary: text to token ids and back, by llama.cpp with the weights left out, or the oracle's own.

The tokenizer is the very one that the worker's library has, so gateway and worker cannot disagree about a token.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from pathlib import Path

from cordee.adapters.libraries import library_directory
from cordee.adapters.model_sources import ModelError
from cordee.adapters.models import ORACLE
from cordee.config.load import cache_dir
from cordee.kernels.library import KernelsError, load
from cordee.kernels.llama import Model
from cordee.policy import oracle
from cordee.ports import Vocabulary

ORACLE_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def open_vocabulary(model: str, library: str) -> Vocabulary:
    """The vocabulary of a GGUF file, or of "oracle". `library`: engine.library. Raises ModelError with the cure."""
    if model == ORACLE:
        return OracleVocabulary()
    try:
        directory = library_directory(library, cache_dir(os.environ))
        return LlamaVocabulary(Model(load(directory), Path(model), vocabulary_only=True))
    except KernelsError as error:
        raise ModelError(str(error)) from error


class LlamaVocabulary:
    """A model's vocabulary. Pieces are asked for once and kept: there are as many as tokens, and no more."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.size = model.size
        self._pieces: list[bytes | None] = [None] * model.size
        self._start = array("I", [model.start_token()] if model.wants_start() and model.start_token() >= 0 else [])

    def encode(self, text: str, *, special: bool, start: bool = False) -> array[int]:
        """Raises UnicodeEncodeError for text that is not Unicode (lone surrogates)."""
        ids = self._model.tokenize(text.encode(), special=special)
        return self._start + ids if start else ids

    def whole(self, text: str) -> array[int]:
        return self._model.tokenize(text.encode(), special=False, whole=True)

    def pair(self, first: str, second: str) -> array[int]:
        before, between, behind = self._model.separators()
        return before + self.encode(first, special=False) + between + self.encode(second, special=False) + behind

    def piece(self, token: int) -> bytes:
        if token < 0:
            raise IndexError(f"token {token} is not in 0 … {self.size - 1}")
        piece = self._pieces[token]
        if piece is None:
            piece = self._pieces[token] = self._model.piece(token)
        return piece

    def control_strings(self) -> Sequence[str]:
        return tuple(filter(None, (self._model.text(token) for token in self._model.control_tokens())))

    def chat_template(self) -> str:
        return self._model.chat_template()

    def template_tokens(self) -> dict[str, str]:
        return {
            "bos_token": self._model.text(self._model.start_token()),
            "eos_token": self._model.text(self._model.end_token()),
        }


class OracleVocabulary:
    """One token per byte of UTF-8 in; four hexadecimal digits and a space per token out."""

    size = oracle.VOCABULARY

    def encode(self, text: str, *, special: bool, start: bool = False) -> array[int]:
        del special, start  # there are no control tokens
        return array("I", list(text.encode()))  # of a list: from bytes it would be read as raw memory

    def whole(self, text: str) -> array[int]:
        return self.encode(text, special=False)

    def pair(self, first: str, second: str) -> array[int]:
        return self.encode(first + second, special=False)

    def piece(self, token: int) -> bytes:
        if not 0 <= token < self.size:
            raise IndexError(f"token {token} is not in 0 … {self.size - 1}")
        return f"{token:04x} ".encode()

    def control_strings(self) -> Sequence[str]:
        return ()

    def chat_template(self) -> str:
        return ORACLE_TEMPLATE

    def template_tokens(self) -> dict[str, str]:
        return {"bos_token": "", "eos_token": ""}
