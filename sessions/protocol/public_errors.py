"""What of an error may be shown to people who neither run the fleet nor wrote the application: its end users.

A provider, an index, a hook or a server says things of its own in errors: addresses, paths, parts of a prompt. Those
are for the log, and for the developer who reads the turn's record. End users are told what our own classes say.
"""

from __future__ import annotations

import re
from typing import Any, Final

from sessions import errors
from sessions.protocol.event import Event, EventType

_OUR_WORDS: Final = (
    errors.TurnCancelled,
    errors.TurnDeadlineExceeded,
    errors.TurnDeadLettered,
    errors.ApprovalTimeout,
    errors.TurnRefused,
    errors.ResultTooLarge,
    errors.DocumentError,
)
"""Ends of turns that we, or the application, put into words ourselves, without those of others."""
_INTERNAL: Final = (errors.BackendError, errors.MissingExtra)


def public_message(error: errors.SessionfleetError) -> str:
    """The text of an error, or its class's own sentence where the text may hold what others said."""
    hidden = isinstance(error, errors.TurnFailed) and not isinstance(error, _OUR_WORDS)
    return class_sentence(type(error)) if hidden or isinstance(error, _INTERNAL) else str(error)


def class_sentence(kind: type[Exception]) -> str:
    """The class's own sentence, as far as it is for callers: what to set is for those who run the fleet."""
    return re.split(r"[;:]", (kind.__doc__ or "It failed.").strip(), maxsplit=1)[0].rstrip(".") + "."


def public_data(event: Event) -> dict[str, Any]:
    """An event's data without what others said in errors."""
    if event.type in (EventType.RETRYING, EventType.RETRIEVED):
        return {name: value for name, value in event.data.items() if name not in ("why", "reason")}
    error = event.data.get("error") if event.type is EventType.ENDED else None
    if not isinstance(error, dict):
        return event.data
    known = errors.turn_error(str(error.get("type")), str(error.get("message")))
    return {**event.data, "error": {"type": error.get("type"), "message": public_message(known)}}
