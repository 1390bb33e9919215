"""Conversations as clients get them."""

from __future__ import annotations

from typing import Any

from sessions.gateway.openai.ids import conversation_id
from sessions.store.session_info import SessionInfo


def conversation(info: SessionInfo) -> dict[str, Any]:
    """One conversation."""
    return {
        "id": conversation_id(info.session_id),
        "object": "conversation",
        "created_at": int(info.created_at.timestamp()),
        "metadata": dict(info.metadata),
    }


def deleted(given: str) -> dict[str, Any]:
    """One that is not there any more."""
    return {"id": given, "object": "conversation.deleted", "deleted": True}
