"""What clients send about conversations."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field

from sessions.errors import BadRequest
from sessions.gateway.openai.item_bodies import ItemBody, items_of
from sessions.gateway.openai.items import Item
from sessions.gateway.openai.parameters import Metadata
from sessions.gateway.strict_json import Body

MOST_ITEMS: Final = 20
_KEPT: Final = ("message", "function_call", "function_call_output")


class NewConversation(Body):
    """A conversation to create."""

    items: list[ItemBody] | None = Field(None, max_length=MOST_ITEMS)
    metadata: Metadata | None = None


class ConversationChange(Body):
    """What to change of a conversation."""

    metadata: Metadata


class NewItems(Body):
    """Items to add to a conversation."""

    items: list[ItemBody] = Field(min_length=1, max_length=MOST_ITEMS)


def kept_items(given: list[ItemBody] | None) -> list[Item]:
    """Items that a history can keep.

    Raises:
        BadRequest: one of them cannot be kept.
    """
    items = items_of(given or [], "items")
    for item in items:
        if item["type"] not in _KEPT:
            raise BadRequest(
                f"items of the type {item['type']!r} cannot be added to a conversation",
                param="items",
                code="unsupported_value",
            )
        _check_texts(item)
    calls = {item["call_id"] for item in items if item["type"] == "function_call"}
    if calls != {item["call_id"] for item in items if item["type"] == "function_call_output"}:
        raise BadRequest("add each function_call together with its function_call_output", param="items")
    return items


def _check_texts(item: Item) -> None:
    content: Any = item.get("content", item.get("output", ""))
    if isinstance(content, list) and any(part["type"] not in ("input_text", "output_text", "text") for part in content):
        raise BadRequest("files are added by responses: items of a conversation have texts only", param="items")
