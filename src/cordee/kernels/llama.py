"""A model of llama.cpp and its vocabulary as a Python object. Free of numpy: gateways load only the vocabulary.

Every pointer is checked where it is made: llama.cpp returns NULL and crashes later.
"""

from __future__ import annotations

import ctypes
from array import array
from pathlib import Path

from cordee.kernels.layout import TOKEN_ATTR_CONTROL, TOKEN_ATTR_UNKNOWN
from cordee.kernels.library import KernelsError, Library

PIECE_BYTES = 256  # first guess at the longest token; longer ones are asked for again with room enough
SPARE_TOKENS = 8  # a text has at most one token per byte, and a few in front


class Model:
    """A GGUF file, loaded. `vocabulary_only` leaves the weights out."""

    def __init__(self, library: Library, path: Path, *, vocabulary_only: bool = False) -> None:
        self.library = library
        self.calls = library.calls
        params = self.calls.llama_model_default_params()
        params.n_gpu_layers = 0
        params.vocab_only = vocabulary_only
        self.pointer = self.calls.llama_model_load_from_file(str(path).encode(), params)
        if not self.pointer:
            raise KernelsError(
                f"{path} could not be loaded as a model: {library.complaints()}. "
                f"Check the file: cordee models verify {path}"
            )
        self.vocab = self.calls.llama_model_get_vocab(self.pointer)
        self.size: int = self.calls.llama_vocab_n_tokens(self.vocab)
        self.trained_context: int = 0 if vocabulary_only else self.calls.llama_model_n_ctx_train(self.pointer)

    def ends(self) -> list[int]:
        """Token ids that end an answer."""
        return [token for token in range(self.size) if self.calls.llama_vocab_is_eog(self.vocab, token)]

    def control_tokens(self) -> list[int]:
        """Token ids that text becomes only if it is tokenised with `special`."""
        mask = TOKEN_ATTR_CONTROL | TOKEN_ATTR_UNKNOWN
        return [token for token in range(self.size) if self.calls.llama_vocab_get_attr(self.vocab, token) & mask]

    def text(self, token: int) -> str:
        """How the vocabulary spells a token; "" for −1, llama.cpp's "there is none"."""
        if token < 0:
            return ""
        spelled: bytes | None = self.calls.llama_vocab_get_text(self.vocab, token)
        return (spelled or b"").decode(errors="replace")

    def start_token(self) -> int:
        token: int = self.calls.llama_vocab_bos(self.vocab)
        return token

    def end_token(self) -> int:
        token: int = self.calls.llama_vocab_eos(self.vocab)
        return token

    def wants_start(self) -> bool:
        wanted: bool = self.calls.llama_vocab_get_add_bos(self.vocab)
        return wanted

    def chat_template(self) -> str:
        template: bytes | None = self.calls.llama_model_chat_template(self.pointer, None)
        return (template or b"").decode(errors="replace")

    def separators(self) -> tuple[array[int], array[int], array[int]]:
        """What stands before, between and behind two texts that the model is to compare, as llama.cpp's own server puts it."""
        start = array("I", [self.start_token()] if self.wants_start() and self.start_token() >= 0 else [])
        separator = self.calls.llama_vocab_sep(self.vocab)
        end = self.end_token() if self.end_token() >= 0 else separator
        ends = array("I", [end] if self.calls.llama_vocab_get_add_eos(self.vocab) and end >= 0 else [])
        wants_separator = self.calls.llama_vocab_get_add_sep(self.vocab) and separator >= 0
        return start, ends + array("I", [separator] if wants_separator else []), ends

    def tokenize(self, text: bytes, *, special: bool, whole: bool = False) -> array[int]:
        """Token ids of UTF-8 text; with `whole` in between those that the model has at the beginning and the end of a text. Raises
        KernelsError if llama.cpp cannot tokenise it."""
        room = len(text) + SPARE_TOKENS
        buffer = (ctypes.c_int32 * room)()
        count = self.calls.llama_tokenize(self.vocab, text, len(text), buffer, room, whole, special)
        if count < 0:
            raise KernelsError(f"{len(text)} bytes of text did not fit {room} tokens: llama.cpp asked for {-count}")
        return array("I", buffer[:count])

    def piece(self, token: int) -> bytes:
        """The bytes of one token; control tokens have none."""
        room = PIECE_BYTES
        while True:
            buffer = ctypes.create_string_buffer(room)
            count = self.calls.llama_token_to_piece(self.vocab, token, buffer, room, 0, False)
            if count >= 0:
                return buffer.raw[:count]
            room = -count

    def close(self) -> None:
        """Free it. Idempotent; nothing of it may be used afterwards."""
        if self.pointer:
            self.calls.llama_model_free(self.pointer)
            self.pointer = None
