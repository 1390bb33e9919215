"""`/v1/conversations`: create, retrieve, change and delete conversations, and their items."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from sessions.api.session import Session
from sessions.gateway.caller import Caller, Reader, Writer
from sessions.gateway.openai.conversations.history import ItemHistory
from sessions.gateway.openai.conversations.requests import ConversationChange, NewConversation, NewItems, kept_items
from sessions.gateway.openai.conversations.responses import conversation, deleted
from sessions.gateway.openai.ids import session_of
from sessions.gateway.openai.lists import page
from sessions.gateway.strict_json import StrictRoute
from sessions.store.keys import new_session_id

router = APIRouter(route_class=StrictRoute, prefix="/v1/conversations")
Include = Annotated[list[str] | None, Query()]


@router.post("", name="create_conversation")
async def create(caller: Writer, body: NewConversation | None = None) -> dict[str, Any]:
    """A session of its own, with these items as its history."""
    new = body or NewConversation(items=None, metadata=None)
    items = kept_items(new.items)
    session = caller.session(new_session_id())
    await session.acreate(metadata=new.metadata)
    if items:
        await ItemHistory(session).add(items)
    return conversation(await session.ainfo())


@router.get("/{conversation_id}", name="retrieve_conversation")
async def retrieve(conversation_id: str, caller: Reader) -> dict[str, Any]:
    """One conversation."""
    return conversation(await caller.session(session_of(conversation_id)).ainfo())


@router.post("/{conversation_id}", name="update_conversation")
async def update(conversation_id: str, body: ConversationChange, caller: Writer) -> dict[str, Any]:
    """Replace its metadata."""
    session = caller.session(session_of(conversation_id))
    gone: dict[str, Any] = dict.fromkeys((await session.ainfo()).metadata)
    return conversation(await session.aupdate(metadata={**gone, **body.metadata}))


@router.delete("/{conversation_id}", name="delete_conversation")
async def delete(conversation_id: str, caller: Writer) -> dict[str, Any]:
    """Delete the session with everything in it."""
    session = await _existing(caller, conversation_id)
    await session.adelete()
    return deleted(conversation_id)


@router.post("/{conversation_id}/items", name="create_items")
async def create_items(conversation_id: str, body: NewItems, caller: Writer, include: Include = None) -> dict[str, Any]:
    """Add items to the history, all or none."""
    items = kept_items(body.items)
    session = await _existing(caller, conversation_id)
    return page(await ItemHistory(session).add(items), has_more=False)


@router.get("/{conversation_id}/items", name="list_items")
async def list_items(
    conversation_id: str,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
    include: Include = None,
) -> dict[str, Any]:
    """The items of the history, those of responses, too; an open turn has none yet."""
    session = await _existing(caller, conversation_id)
    items, more = await ItemHistory(session).page(limit, order, after)
    return page(items, has_more=more)


@router.get("/{conversation_id}/items/{item_id}", name="retrieve_item")
async def retrieve_item(conversation_id: str, item_id: str, caller: Reader, include: Include = None) -> dict[str, Any]:
    """One item."""
    session = await _existing(caller, conversation_id)
    return (await ItemHistory(session).item(item_id))[0]


@router.delete("/{conversation_id}/items/{item_id}", name="delete_item")
async def delete_item(conversation_id: str, item_id: str, caller: Writer) -> dict[str, Any]:
    """Delete an item that stands alone; of a turn nothing can be deleted but the whole."""
    session = await _existing(caller, conversation_id)
    await ItemHistory(session).delete(item_id)
    return conversation(await session.ainfo())


async def _existing(caller: Caller, conversation_id: str) -> Session:
    """The session of a conversation.

    Raises:
        NotFound, SessionExpired: it does not exist. SessionOwnerError: it is another user's.
    """
    session = caller.session(session_of(conversation_id))
    await session.ainfo()
    return session
