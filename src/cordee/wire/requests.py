"""What clients of the chat and completion endpoints may send: the typed bodies, and what of them has no effect.

A parameter that OpenAI's clients know and whose absence changes nothing in the answer is accepted and ignored. One that
would change the answer and is not implemented is refused. One that names an engine's internals, or that nobody knows, is
refused too: a typing error must not pass in silence.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from msgspec.json import Decoder

Temperature = Annotated[float, Meta(ge=0, le=2)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Tokens = Annotated[int, Meta(ge=1, le=10_000_000)]
Choices = Annotated[int, Meta(ge=1, le=128)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
StopText = Annotated[str, Meta(min_length=1, max_length=256)]
Stops = Annotated[list[StopText], Meta(max_length=16)]
Bias = Annotated[dict[str, Annotated[float, Meta(ge=-100, le=100)]], Meta(max_length=1024)]
Alternatives = Annotated[int, Meta(ge=0, le=20)]
Model = Annotated[str, Meta(min_length=1, max_length=256)]
Label = Annotated[str, Meta(max_length=512)]


class StreamOptions(Struct, frozen=True, forbid_unknown_fields=True):
    include_usage: bool = False
    include_obfuscation: bool = False


class Message(Struct, frozen=True):
    """One turn. `content`: text, a list of parts, or null beside tool calls."""

    role: Annotated[str, Meta(max_length=32)]
    content: str | list[dict[str, Any]] | None = None
    name: Label | None = None
    tool_calls: list[Any] | None = None
    tool_call_id: Label | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None


class _Common(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    model: Model
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Choices | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    max_tokens: Tokens | None = None
    stop: StopText | Stops | None = None
    seed: Seed | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Bias | None = None
    # what other servers of the field accept under the same names
    top_k: Annotated[int, Meta(ge=-1, le=1_000_000)] | None = None
    min_p: Probability | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=10_000_000)] | None = None
    ignore_eos: bool | None = None
    cache_salt: Label | None = None
    # what the answer has to be: looked at by wire.grammar
    response_format: Raw | UnsetType = UNSET
    structured_outputs: Raw | UnsetType = UNSET
    # accepted, without effect on the answer
    user: Label | None = None
    metadata: Raw | UnsetType = UNSET
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Label | None = None
    prompt_cache_options: Raw | UnsetType = UNSET
    service_tier: Label | None = None
    store: bool | None = None


class ChatRequest(_Common, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of POST /v1/chat/completions."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=4096)]
    max_completion_tokens: Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: Alternatives | None = None
    # looked at by wire.tools and wire.talk
    tools: Raw | UnsetType = UNSET
    tool_choice: Raw | UnsetType = UNSET
    parallel_tool_calls: bool | None = None
    reasoning_effort: Label | None = None
    chat_template_kwargs: Raw | UnsetType = UNSET
    # would change the answer: refused by our own workers, forwarded to servers that may know them
    functions: Raw | UnsetType = UNSET
    function_call: Raw | UnsetType = UNSET
    modalities: Raw | UnsetType = UNSET
    audio: Raw | UnsetType = UNSET
    prediction: Raw | UnsetType = UNSET
    web_search_options: Raw | UnsetType = UNSET
    moderation: Raw | UnsetType = UNSET
    # a hint
    verbosity: Label | None = None


class CompletionRequest(_Common, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of POST /v1/completions."""

    prompt: str | Annotated[list[Any], Meta(max_length=1_048_576)] | None = (
        None  # looked at more closely by gateway.prepare
    )
    logprobs: Alternatives | None = None
    echo: bool | None = None
    best_of: Choices | None = None
    suffix: str | None = None


def keys_in_messages(body: ChatRequest) -> int:
    """For wire.strict.refuse_repeated."""
    count = 0
    for message in body.messages:
        count += 1 if message.content is None else 2
    return count


CHAT = Decoder(ChatRequest)
COMPLETION = Decoder(CompletionRequest)
