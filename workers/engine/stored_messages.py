"""The messages of a turn as the history stores them (`sessions/protocol/lean_messages.py`), and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelRequest
from pydantic_core import to_json

from sessions.errors import CorruptRecord
from sessions.protocol.lean_messages import lean_messages
from workers.engine.ports import PastTurn


def dump_messages(messages: Sequence[ModelMessage], *, turn_id: str = "", session_id: str = "") -> bytes:
    """One JSON array.

    They have no instructions: a later turn has its own, and an earlier version recalled memories into them.

    Args:
        turn_id, session_id: of the turn that they are the messages of.
    """
    plain = [replace(m, instructions=None) if isinstance(m, ModelRequest) else m for m in messages]
    dumped = ModelMessagesTypeAdapter.dump_python(plain, mode="json")
    return to_json(lean_messages(dumped, turn_id=turn_id, session_id=session_id))


def load_messages(past: PastTurn) -> list[ModelMessage]:
    """The messages of a past turn.

    Raises:
        CorruptRecord: they are not messages of this or an earlier version.
    """
    try:
        messages = ModelMessagesTypeAdapter.validate_json(past.messages)
    except ValueError as error:
        raise CorruptRecord(
            f"the session's history cannot be read by this worker: {error}. Upgrade the worker if a newer one wrote it"
        ) from error
    if past.turn_id:
        for message in messages:
            if message.run_id is None and message.conversation_id is None:
                message.run_id, message.conversation_id = past.turn_id, past.session_id
    return messages
