"""Ids of messages, which name the turn that they belong to: any gateway finds it without looking anything up."""

from __future__ import annotations

import re
from typing import Final

_MESSAGE: Final = re.compile(r"(?:usr|msg)_([0-9a-f]{32})(?:_[0-9]+)?\Z")


def question_id(part: str, place: int = 0) -> str:
    """The id of what the user said in a turn, which is named by its id within the session."""
    return f"usr_{part}" + (f"_{place}" if place else "")


def answer_id(part: str, place: int = 0) -> str:
    """The id of a turn's answer."""
    return f"msg_{part}" + (f"_{place}" if place else "")


def turn_of(message_id: str) -> str | None:
    """The turn of a message, by its id within the session; None if the id was not made here."""
    found = _MESSAGE.match(message_id)
    return None if found is None else found[1]


def asked_in(message_id: str) -> str | None:
    """The same, if it is the message of the user."""
    return turn_of(message_id) if message_id.startswith("usr_") else None


def approval_id(leg: int, call_id: str) -> str:
    """The id of a request for approval. It names the leg: a decision is never read as one about a later request."""
    return f"apr_{leg}_{call_id}"
