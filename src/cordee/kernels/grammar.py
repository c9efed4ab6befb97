"""What the library llguidance makes of a grammar, and how much one may cost. Free of numpy: the process that tries grammars out has none.

The same limits hold where a grammar is tried out and where it is used. They bound what the library counts: symbols, parser items,
lexer states. They do not bound its time (a schema of forty bytes with a large `multipleOf` takes it many seconds), so what comes from a
client is tried out first in a process that can be ended: see `grammar_trial`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, assert_never

from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.gbnf_to_lark import any_to_lark

from cordee.domain.call import JSON_SPACE, Grammar, Syntax
from cordee.kernels.llama import Model

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

RULES = 1  # of ours, below: raise it when the same grammar would allow other tokens
# Two versions may allow different tokens at the same place.
VERSION = f"llguidance {version('llguidance')}, rules {RULES}"

OBJECT = '{"type":"object"}'
SPACE: JsonCompileOptions = {"whitespace_pattern": JSON_SPACE}

LIMITS = LLParserLimits(
    initial_lexer_fuel=1_000_000,  # some 20 ms to build what a large schema needs
    step_lexer_fuel=200_000,  # some 15 ms for one token
    step_max_items=20_000,  # some 10 ms for one token: everybody's next token waits for it
    max_items_in_row=2_000,
    max_lexer_states=50_000,  # of 1 to 2 KiB each
    max_grammar_size=100_000,  # symbols: ten times what the largest schemas in use have
    verbose_errors=False,  # they would quote what was written
)
SILENT = 0
SPECIAL = b"\xff"  # in front of what the library is to take as a token that text never becomes
MESSAGE_CHARS_MAX = 400


class GrammarError(Exception):
    """The grammar cannot be used; the message says what the library has against it."""


class Words:
    """A vocabulary as the library wants to be handed one: the bytes of each token, which of them end an answer, and a function
    from bytes to tokens, for text that the grammar leaves no choice about. Tokens without bytes are never allowed."""

    bos_token_id = None

    def __init__(
        self, pieces: Sequence[bytes], ends: Sequence[int], special: Sequence[int], encode: Callable[[bytes], list[int]]
    ) -> None:
        self.tokens = list(pieces)
        self.eos_token_id = ends[0]
        self.special_token_ids = list(special)
        self._encode = encode
        self.is_tokenizer_wrapper = True  # what the library looks for

    def __call__(self, text: str | bytes) -> list[int]:
        return self._encode(text.encode() if isinstance(text, str) else text)


def tokenizer(model: Model) -> LLTokenizer:
    """The library's index of a model's vocabulary. Takes some tenths of a second for 50,000 tokens."""
    control, ends = model.control_tokens(), model.ends()
    pieces = [model.piece(token) for token in range(model.size)]
    for token in control:
        pieces[token] = SPECIAL + model.text(token).encode()  # text never becomes one; a grammar can name it
    words = Words(pieces, ends, control, lambda text: list(model.tokenize(text, special=False)))
    return LLTokenizer(words, n_vocab=model.size, eos_token=ends)  # type: ignore[arg-type]  # it looks like one


def byte_tokenizer() -> LLTokenizer:
    """A vocabulary of all bytes and one end: enough to see whether a grammar can be used, and nothing to load."""
    end = 256
    pieces = [*(bytes([byte]) for byte in range(end)), SPECIAL + b"<end>"]
    words = Words(pieces, [end], [end], list)
    return LLTokenizer(words, n_vocab=len(pieces), eos_token=[end], slices=[])  # type: ignore[arg-type]


def matcher(index: LLTokenizer, grammar: Grammar) -> LLMatcher:
    """What says which tokens may come next, at the beginning of an answer. Raises GrammarError."""
    made = LLMatcher(index, _source(grammar), log_level=SILENT, limits=LIMITS)
    refuse_broken(made)
    return made


def refuse_broken(made: LLMatcher) -> None:
    """Raises GrammarError for a matcher that has failed, which it never says by itself."""
    if made.is_error():
        raise GrammarError(_first_lines(made.get_error()))


def _source(grammar: Grammar) -> str:
    match grammar.syntax:
        case Syntax.JSON_OBJECT:
            return _from_schema(OBJECT)
        case Syntax.JSON_SCHEMA:
            return _from_schema(grammar.text)
        case Syntax.REGEX:
            return LLMatcher.grammar_from_regex(grammar.text)
        case Syntax.LARK:
            try:
                return LLMatcher.grammar_from_lark(any_to_lark(grammar.text))
            except Exception as error:  # the library's own reader raises all kinds
                raise GrammarError(f"it is neither Lark nor GBNF: {_first_lines(str(error))}") from error
        case _:
            assert_never(grammar.syntax)


def _from_schema(text: str) -> str:
    try:
        return LLMatcher.grammar_from_json_schema(text, defaults=SPACE)
    except ValueError as error:
        raise GrammarError(str(error)) from error


def _first_lines(message: str) -> str:
    """Without the library's quotations of what was written, which may be long."""
    lines = [line.strip() for line in message.splitlines() if "<non-verbose/>" not in line and " | " not in line]
    return " ".join(filter(None, lines)).rstrip(" ^")[:MESSAGE_CHARS_MAX]
