"""The body of POST /v1/responses: what clients may say, and which of it this installation can do.

What changes nothing in the answer is accepted and shown back. What would change it and cannot be done here (tools that OpenAI runs, its
prompt templates, its moderation) is refused with a 400 that names the parameter: an answer without the search that was asked for is
worse than none.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from cordee.wire.errors import Invalid
from cordee.wire.requests import Alternatives, Label, Model, Probability, StreamOptions, Temperature, Tokens
from cordee.wire.strict import decode, look_closely

METADATA_MAX, METADATA_KEY, METADATA_VALUE = 16, 64, 512  # OpenAI's: pairs, and characters
ITEMS_MAX = 2048  # of one request
TOOLS_MAX = 128
Metadata = dict[Annotated[str, Meta(max_length=METADATA_KEY)], Annotated[str, Meta(max_length=METADATA_VALUE)]]
Identifier = Annotated[
    str, Meta(min_length=1, max_length=64, pattern=r"^[^\x00]+$")
]  # PostgreSQL looks for no text with a NUL
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Truncation = Literal["auto", "disabled"]
Tier = Literal["auto", "default", "flex", "scale", "priority"]
LOGPROBS = "message.output_text.logprobs"
_INCLUDES = Literal[
    "file_search_call.results", "web_search_call.results", "web_search_call.action.sources",
    "message.input_image.image_url", "computer_call_output.output.image_url", "code_interpreter_call.outputs",
    "reasoning.encrypted_content", "message.output_text.logprobs",
]  # fmt: skip
_ABSENT = {
    "prompt": "prompt templates are kept at OpenAI; send their text as 'instructions'",
    "moderation": "nothing here moderates; leave it out",
    "context_management": "nothing here compacts a context; use 'truncation'",
    "max_tool_calls": "it limits tools that OpenAI runs; here the client runs them",
    "access_programs": "there are none here",
    "image": "there are no images here",
}


class Reasoning(Struct, frozen=True, forbid_unknown_fields=True):
    """`effort` is the model's; summaries are not made here: the thoughts themselves are in the answer."""

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Literal["auto", "current_turn", "all_turns"] | None = None


class Plain(Struct, frozen=True, forbid_unknown_fields=True, tag="text"):
    pass


class JsonObject(Struct, frozen=True, forbid_unknown_fields=True, tag="json_object"):
    pass


class JsonSchema(Struct, frozen=True, forbid_unknown_fields=True, tag="json_schema"):
    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema: dict[str, Any]
    strict: bool | None = None
    description: Annotated[str, Meta(max_length=65_536)] | None = None


class Text(Struct, frozen=True, forbid_unknown_fields=True):
    format: Plain | JsonObject | JsonSchema | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ConversationNamed(Struct, frozen=True, forbid_unknown_fields=True):
    id: Identifier


class Function(Struct, frozen=True, forbid_unknown_fields=True, tag="function"):
    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    description: Annotated[str, Meta(max_length=65_536)] | None = None


class ChosenFunction(Struct, frozen=True, forbid_unknown_fields=True, tag="function"):
    name: str


class AllowedTools(Struct, frozen=True, forbid_unknown_fields=True, tag="allowed_tools"):
    mode: Literal["auto", "required"]
    tools: Annotated[list[ChosenFunction], Meta(min_length=1, max_length=TOOLS_MAX)]


class Create(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body, typed."""

    model: Model
    input: Annotated[str, Meta(min_length=1)] | Annotated[list[dict[str, Any]], Meta(max_length=ITEMS_MAX)] = field(
        default_factory=list
    )
    instructions: str | None = None
    previous_response_id: Identifier | None = None
    conversation: Identifier | ConversationNamed | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    background: bool | None = None
    metadata: Annotated[Metadata, Meta(max_length=METADATA_MAX)] | None = None
    max_output_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    top_logprobs: Alternatives | None = None
    include: Annotated[list[_INCLUDES], Meta(max_length=16)] | None = None
    text: Text | None = None
    tools: Annotated[list[Raw], Meta(max_length=TOOLS_MAX)] | None = None
    tool_choice: Raw | UnsetType = UNSET
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    truncation: Truncation | None = None
    service_tier: Tier | None = None
    # shown back, without effect on the answer
    user: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    prompt_cache_options: Raw | UnsetType = UNSET
    background_options: Raw | UnsetType = UNSET
    # what OpenAI has and this installation has not
    prompt: Raw | UnsetType = UNSET
    moderation: Raw | UnsetType = UNSET
    context_management: Raw | UnsetType = UNSET
    max_tool_calls: Raw | UnsetType = UNSET
    access_programs: Raw | UnsetType = UNSET
    image: Raw | UnsetType = UNSET

    @property
    def is_stored(self) -> bool:
        return self.store is not False

    @property
    def conversation_id(self) -> str | None:
        named = self.conversation
        return named.id if isinstance(named, ConversationNamed) else named

    @property
    def wants_logprobs(self) -> bool:
        return self.top_logprobs is not None or LOGPROBS in (self.include or ())


_DECODER = msgspec.json.Decoder(Create)


def read(body: bytes) -> Create:
    """The request. Raises Invalid."""
    asked = decode(_DECODER, body)
    look_closely(body)  # a key that stands twice: which of the two was meant, nobody knows
    for name, why in _ABSENT.items():
        if getattr(asked, name) not in (UNSET, Raw(b"null")):
            raise Invalid(f"{name!r} is not supported: {why}", name, "unsupported_parameter")
    if not asked.input and asked.previous_response_id is None and asked.conversation is None:
        raise Invalid("you must provide 'input': text or a list of items", "input", "missing_required_parameter")
    if asked.previous_response_id is not None and asked.conversation is not None:
        raise Invalid(
            "'previous_response_id' and 'conversation' both say what came before; send one of them", "conversation"
        )
    if asked.background and not asked.is_stored:
        raise Invalid("'background' needs 'store': an answer that nobody waits for has to be kept", "background")
    if asked.conversation is not None and not asked.is_stored:
        raise Invalid("'conversation' needs 'store': its items are kept", "store")
    return asked
