"""What can happen to a conversation: the types of events in `conv_…` streams and what each holds. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cordee.services.chats.log import Told, told

CREATED = "conversation.created"  # {metadata}
UPDATED = "conversation.updated"  # {metadata}
TITLED = "conversation.titled"  # {title}
ARCHIVED = "conversation.archived"  # {is_archived}
ITEM_ADDED = "item.added"  # {item}; empty once the item was deleted
ITEM_DELETED = "item.deleted"  # {number}: the version at which it was added

CONVERSATION = "conv"  # how the ids of conversations, and their streams, begin


def created(metadata: Mapping[str, str]) -> Told:
    return told(CREATED, {"metadata": dict(metadata)})


def updated(metadata: Mapping[str, str]) -> Told:
    return told(UPDATED, {"metadata": dict(metadata)})


def titled(title: str) -> Told:
    return told(TITLED, {"title": title})


def archived(is_archived: bool) -> Told:
    return told(ARCHIVED, {"is_archived": is_archived})


def item_added(item: Mapping[str, Any]) -> Told:
    """`item` as it is kept and shown, with an id that no other item of the conversation has."""
    return told(ITEM_ADDED, {"item": dict(item)})


def item_deleted(number: int) -> Told:
    return told(ITEM_DELETED, {"number": number})
