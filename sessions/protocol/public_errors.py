"""The part of an error that may be shown to end users, who neither run the fleet nor wrote the application.

Errors may quote providers, indexes, hooks and servers: addresses, paths, parts of a prompt. That belongs in the log,
and in the turn's record for developers. End users get the sentences of our own error classes.
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
    errors.HistoryChanged,
    errors.TurnRefused,
    errors.TurnLimitExceeded,
    errors.ResultTooLarge,
    errors.DocumentError,
)
"""Errors whose text is written by us or by the application, so it can be shown."""
_INTERNAL: Final = (errors.BackendError, errors.MissingExtra)


def public_message(error: errors.SessionfleetError) -> str:
    """The text of an error, or its class's own sentence if the text may quote others."""
    hidden = isinstance(error, errors.TurnFailed) and not isinstance(error, _OUR_WORDS)
    return class_sentence(type(error)) if hidden or isinstance(error, _INTERNAL) else str(error)


def class_sentence(kind: type[Exception]) -> str:
    """The class's own sentence without what follows the first `;` or `:`, which is advice for operators."""
    return re.split(r"[;:]", (kind.__doc__ or "It failed.").strip(), maxsplit=1)[0].rstrip(".") + "."


def public_data(event: Event) -> dict[str, Any]:
    """An event's data without errors that may quote others."""
    if event.type in (EventType.RETRYING, EventType.RETRIEVED):
        return {name: value for name, value in event.data.items() if name not in ("why", "reason")}
    error = event.data.get("error") if event.type is EventType.ENDED else None
    if not isinstance(error, dict):
        return event.data
    known = errors.turn_error(str(error.get("type")), str(error.get("message")))
    return {**event.data, "error": {"type": error.get("type"), "message": public_message(known)}}
