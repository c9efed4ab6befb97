"""How each kind of server is asked to go on with an answer that has begun.

From tokens (vLLM): the ids it reported go into its completions endpoint as the prompt. From text: the completions endpoint of
any server takes prompt and text together; a chat goes on from a last message of the assistant, which every kind marks in
its own way. What cannot be gone on with (tool calls, thoughts, several choices, a grammar) is not tried.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import msgspec
from msgspec import Raw

from cordee.adapters.upstreams.journal import Journal
from cordee.domain.replica import Continuation

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
GRAMMARS = ("response_format", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs")
TO_COMPLETIONS = (
    "temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty", "repetition_penalty",
    "logit_bias", "stop", "min_tokens", "ignore_eos", "stream_options",
)  # fmt: skip
MAX_TOKENS = ("max_completion_tokens", "max_tokens")
PLAIN_FORMATS = (b"null", b'{"type":"text"}')
encode = msgspec.json.encode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode


class Dialect(Enum):
    """What a server is."""

    UNKNOWN = "unknown"
    VLLM = "vllm"
    SGLANG = "sglang"
    LLAMA_CPP = "llama.cpp"
    PARTIAL = "partial"  # Alibaba Cloud Model Studio, Moonshot


class ImpossibleError(Exception):
    """The answer cannot be gone on with; the message says why."""


# What marks the last message as one to go on with: in the message itself, and beside the messages.
_MARKS: dict[Dialect, tuple[dict[str, object], dict[str, object]]] = {
    Dialect.UNKNOWN: ({}, {"continue_final_message": True, "add_generation_prompt": False}),
    Dialect.VLLM: ({}, {"continue_final_message": True, "add_generation_prompt": False}),
    Dialect.SGLANG: ({}, {"continue_final_message": True, "add_generation_prompt": False}),
    # It goes on with a last message of the assistant unasked, but then, since 2026, says that message again first.
    Dialect.LLAMA_CPP: ({}, {"continue_final_message": True, "add_generation_prompt": False}),
    Dialect.PARTIAL: ({"partial": True}, {}),
}


def able(dialect: Dialect, wished: str) -> Continuation:
    """What a server can do. `wished`: the setting `continues`; "auto" trusts what the server seems to be."""
    if wished == "restart" or (wished == "auto" and dialect is Dialect.UNKNOWN):
        return Continuation.RESTART
    if wished == "tokens" or (wished == "auto" and dialect is Dialect.VLLM):
        return Continuation.TOKENS
    return Continuation.TEXT


def fields_of(body: bytes) -> dict[str, Raw]:
    """The body's fields, each as it came."""
    return _fields(body)


def with_ids(body: bytes) -> bytes:
    """The same request, asking for the token ids beside the text."""
    return body.rstrip()[:-1] + b',"return_token_ids":true}'


def continuing(
    path: str, body: bytes, journal: Journal, able: Continuation, dialect: Dialect, model: str | None
) -> tuple[Continuation, str, bytes]:
    """How the answer goes on, path and body of the request for it. `model`: its name at the server, None for the same. Raises
    ImpossibleError."""
    fields = fields_of(body)
    _refuse(fields, journal)
    if model is not None:
        fields["model"] = Raw(encode(model))
    if not journal.text:
        return Continuation.RESTART, path, encode(fields)  # only its envelope has left, which stays
    left = _left(fields, journal)
    if able >= Continuation.TOKENS and journal.has_ids and journal.is_whole and _only_samples(fields):
        return Continuation.TOKENS, COMPLETIONS, _from_tokens(fields, journal, left)
    build: Callable[[dict[str, Raw], Journal, Dialect], None] = _chat if path == CHAT else _completion
    build(fields, journal, dialect)
    for name in MAX_TOKENS:
        if name in fields and left is not None:
            fields[name] = Raw(encode(left))
    return Continuation.TEXT, path, encode(fields)


def _refuse(fields: dict[str, Raw], journal: Journal) -> None:
    if not journal.is_only_text:
        raise ImpossibleError("it called tools or thought aloud, which text cannot go on with")
    if journal.choices > 1 or bytes(fields.get("n", Raw(b"1"))) not in (b"1", b"null"):
        raise ImpossibleError("it had several choices")
    for name in GRAMMARS:
        if name in fields and bytes(fields[name]).replace(b" ", b"") not in PLAIN_FORMATS:
            raise ImpossibleError(f"it was bound by {name}, which a server cannot take up in the middle")


def _only_samples(fields: dict[str, Raw]) -> bool:
    """Nothing of the chat endpoint's own is needed: stop strings hold text back that its tokens have passed already, and tools
    are read from the text there."""
    return not any(
        name in fields and bytes(fields[name]) not in (b"null", b"[]") for name in ("stop", "tools", "functions")
    )


def _left(fields: dict[str, Raw], journal: Journal) -> int | None:
    """Tokens that may still come; None: no limit was given."""
    for name in MAX_TOKENS:
        if name in fields and bytes(fields[name]) != b"null":
            return max(1, msgspec.json.decode(fields[name], type=int) - journal.emitted)
    return None


def _from_tokens(fields: dict[str, Raw], journal: Journal, left: int | None) -> bytes:
    kept = {name: fields[name] for name in TO_COMPLETIONS if name in fields}
    limit: dict[str, object] = {"max_tokens": left} if left is not None else {}
    prompt = [*journal.prompt_ids, *journal.ids]
    return encode(
        {"model": fields["model"], "prompt": prompt, "stream": True, "return_token_ids": True, **limit, **kept}
    )


def _chat(fields: dict[str, Raw], journal: Journal, dialect: Dialect) -> None:
    in_message, beside = _MARKS[dialect]
    messages = msgspec.json.decode(fields["messages"], type=list[Raw])
    last = {"role": "assistant", "content": journal.text, **in_message}
    fields["messages"] = Raw(encode([*messages, last]))
    for name, value in beside.items():
        fields[name] = Raw(encode(value))


def _completion(fields: dict[str, Raw], journal: Journal, dialect: Dialect) -> None:
    prompt = msgspec.json.decode(fields["prompt"])
    if not isinstance(prompt, str) or bytes(fields.get("echo", Raw(b"null"))) == b"true":
        raise ImpossibleError("its prompt is not one text that its answer could be put behind")
    fields["prompt"] = Raw(encode(prompt + journal.text))
