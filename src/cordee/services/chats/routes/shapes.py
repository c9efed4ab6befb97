"""What the bodies of conversations and chats look like, with the limits of every field. Times are seconds of the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cordee.services.base.paging import Listing, Page, taken
from cordee.services.chats.store import Conversation, Hit, Item
from cordee.services.chats.tables import TITLE_CHARACTERS_MAX
from cordee.services.chats.words import snippet, text_of

ITEMS_PER_REQUEST_MAX = 20  # OpenAI's, as are those of metadata
METADATA_MAX, METADATA_KEY, METADATA_VALUE = 16, 64, 512
SNIPPET_CHARACTERS = 240

Include = Literal[
    "file_search_call.results", "web_search_call.results", "web_search_call.action.sources",
    "message.input_image.image_url", "computer_call_output.output.image_url", "code_interpreter_call.outputs",
    "reasoning.encrypted_content", "message.output_text.logprobs",
]  # fmt: skip
LOGPROBS: Include = "message.output_text.logprobs"


def _printable(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise ValueError("printable characters only, and not only spaces")
    return text


def _metadata(pairs: dict[str, str]) -> dict[str, str]:
    if len(pairs) > METADATA_MAX:
        raise ValueError(f"{len(pairs)} pairs, and {METADATA_MAX} are the most")
    for key, value in pairs.items():
        if len(key) > METADATA_KEY or len(value) > METADATA_VALUE:
            raise ValueError(f"a key has at most {METADATA_KEY} characters, a value {METADATA_VALUE}")
    return pairs


Metadata = Annotated[dict[str, str], AfterValidator(_metadata)]
Items = Annotated[
    list[dict[str, Any]],
    Field(max_length=ITEMS_PER_REQUEST_MAX, description="Messages, function calls and their outputs, reasoning."),
]


class Given(BaseModel):
    """A request's body: no other parameters than these, and none of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ConversationGiven(Given):
    items: Items | None = None
    metadata: Metadata | None = None


class ConversationChanged(Given):
    metadata: Metadata | None


class ItemsGiven(Given):
    items: Annotated[Items, Field(min_length=1)]


class ConversationShape(BaseModel):
    """OpenAI's conversation."""

    id: str
    object: Literal["conversation"] = "conversation"
    created_at: int
    metadata: dict[str, str]


class ConversationDeleted(BaseModel):
    id: str
    object: Literal["conversation.deleted"] = "conversation.deleted"
    deleted: Literal[True] = True


class ChatChanged(Given):
    title: Annotated[str, Field(min_length=1, max_length=TITLE_CHARACTERS_MAX), AfterValidator(_printable)] | None = (
        None
    )
    archived: bool | None = None


class ChatShape(BaseModel):
    """A conversation as it stands in the list of its owner's."""

    id: str
    object: Literal["chat"] = "chat"
    title: str = Field(description="Chosen, or the beginning of the first thing its user wrote; empty before that.")
    archived: bool
    created_at: int
    updated_at: int
    metadata: dict[str, str]


class HitShape(BaseModel):
    """A message in which all the words stand."""

    id: str = Field(description="`after` of the next page.")
    object: Literal["chat.hit"] = "chat.hit"
    conversation: str
    title: str = Field(description="Of the conversation.")
    item: str
    role: str
    text: str = Field(description="The place in the message.")
    created_at: int


def conversation_shape(found: Conversation) -> ConversationShape:
    return ConversationShape(id=found.id, created_at=int(found.created_at), metadata=dict(found.metadata))


def chat_shape(found: Conversation) -> ChatShape:
    return ChatShape(
        id=found.id, title=found.title, archived=found.is_archived, created_at=int(found.created_at),
        updated_at=int(found.updated_at), metadata=dict(found.metadata),
    )  # fmt: skip


def hit_shape(found: Hit, question: str) -> HitShape:
    return HitShape(
        id=found.event, conversation=found.conversation, title=found.title, item=found.item["id"], role=found.item["role"],
        text=snippet(text_of(found.item), question, SNIPPET_CHARACTERS), created_at=int(found.time),
    )  # fmt: skip


def item_shape(item: Item, include: frozenset[str]) -> dict[str, Any]:
    """As OpenAI shows it: probabilities only to who asks for them."""
    body = dict(item.body)
    if LOGPROBS not in include and isinstance(body.get("content"), list):
        body["content"] = [_without_logprobs(part) for part in body["content"]]
    return body


def item_listing(items: list[Item], include: frozenset[str], page: Page) -> Listing[dict[str, Any]]:
    shown, more = taken([item_shape(one, include) for one in items], page)
    return Listing(
        data=shown,
        has_more=more,
        first_id=shown[0]["id"] if shown else None,
        last_id=shown[-1]["id"] if shown else None,
    )


def _without_logprobs(part: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in part.items() if name != "logprobs"}
