"""Conversations, with OpenAI's own client: sessions, whose histories are items."""

from __future__ import annotations

from typing import Any

import openai
import pytest

SEEDED: Any = [
    {"type": "message", "role": "user", "content": "My name is Alice"},
    {"type": "message", "role": "assistant", "content": "Hello Alice"},
]


def texts(client: openai.OpenAI, conversation: str, **options: Any) -> list[str]:
    return [item.content[0].text for item in client.conversations.items.list(conversation, **options)]  # type: ignore[union-attr]


def test_a_conversation_begins_with_items(client: openai.OpenAI) -> None:
    """Responses go on from there, and their messages are items, too."""
    made = client.conversations.create(items=SEEDED, metadata={"topic": "names"})
    assert made.metadata == {"topic": "names"}
    response = client.responses.create(model="assistant", input="RECITE", conversation=made.id)
    assert response.output_text == "My name is Alice | Hello Alice"
    assert response.conversation is not None
    assert response.conversation.id == made.id
    said = ["My name is Alice", "Hello Alice", "RECITE", "My name is Alice | Hello Alice"]
    assert texts(client, made.id, order="asc") == said
    assert texts(client, made.id, limit=1) == said[::-1], "the client reads all pages"


def test_a_conversation_is_changed_and_deleted(client: openai.OpenAI) -> None:
    """Its metadata are replaced; deleted means that the session is gone."""
    made = client.conversations.create(metadata={"a": "1", "b": "2"})
    assert client.conversations.update(made.id, metadata={"b": "3"}).metadata == {"b": "3"}
    found = client.conversations.retrieve(made.id)
    assert (found.created_at, found.metadata) == (made.created_at, {"b": "3"})
    assert client.conversations.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.conversations.retrieve(made.id)


def test_items_are_added_found_and_deleted(client: openai.OpenAI) -> None:
    """One that stands alone can be deleted; one of a turn cannot be taken out of it."""
    made = client.conversations.create(items=SEEDED)
    called: Any = [
        {"role": "user", "content": "Does it rain?"},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Rome"}'},
        {"type": "function_call_output", "call_id": "c1", "output": "yes"},
    ]
    added = client.conversations.items.create(made.id, items=called).data
    assert [item.type for item in added] == ["message", "function_call", "function_call_output"]
    for item in added:
        assert client.conversations.items.retrieve(item.id, conversation_id=made.id) == item  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError, match="delete the response"):
        client.conversations.items.delete(added[0].id, conversation_id=made.id)  # type: ignore[arg-type]
    (alone,) = client.conversations.items.create(made.id, items=[{"role": "user", "content": "Hello?"}]).data
    client.conversations.items.delete(alone.id, conversation_id=made.id)  # type: ignore[arg-type]
    assert [item.type for item in client.conversations.items.list(made.id)][:1] == ["function_call_output"]
    with pytest.raises(openai.NotFoundError):
        client.conversations.items.retrieve(alone.id, conversation_id=made.id)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "items",
    [
        [{"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"}],
        [{"type": "item_reference", "id": "x"}],
        [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}]}],
    ],
)
def test_items_that_cannot_be_kept_are_refused(client: openai.OpenAI, items: Any) -> None:
    """Before anything is created."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.conversations.create(items=items)
    assert refused.value.param == "items"


def test_ids_of_nothing(client: openai.OpenAI) -> None:
    """Whether they could be ours or not."""
    for name in ("conv_1", "conv_eA", "other"):
        with pytest.raises(openai.NotFoundError):
            client.conversations.items.list(name)
        with pytest.raises(openai.NotFoundError):
            client.conversations.delete(name)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="assistant", input="hi", conversation="other")
