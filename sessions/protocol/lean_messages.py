"""Messages in pydantic-ai's JSON without what a reader adds by itself: nulls, defaults, and the ids of their turn.

An entry of the history is kept for as long as its session, so each byte of it counts. What is left out has that value
by default in pydantic-ai, so the messages parse to the same ones; a test compares the names below with pydantic-ai's
classes. Workers and clients of earlier versions read them, too. What tells the kinds of messages and parts apart stays,
and so does all content, because a tool may return null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_NULLS: Final = (
    "audio canonical_system citations context_id conversation_id description dynamic_ref failed_attempts finish_reason "
    "history_digest id instructions interrupted_at_ms metadata model_id model_name provider_details provider_name "
    "provider_response_id provider_url retry run_id signature tag timestamps tool_kind transcript vendor_metadata "
    "workspace_ref"
)
_USAGE: Final = (
    "input_tokens cache_write_tokens cache_write_1h_tokens cache_read_tokens output_tokens unmeasured_requests "
    "output_reasoning_tokens input_audio_tokens cache_audio_read_tokens output_audio_tokens audio_seconds details cost"
)
_PARTS: Final = (
    "user-prompt system-prompt text thinking tool-call tool-return retry-prompt builtin-tool-call builtin-tool-return "
    "file compaction speech"
)
NULLS: Final = frozenset(_NULLS.split())
"""Fields of messages, parts and items of content that are left out if they are null."""
DEFAULTS: Final[Mapping[str, Any]] = {"state": "complete", "outcome": "success", "force_download": False}
"""Other fields of theirs, left out if they have these values."""
USAGE: Final = frozenset(_USAGE.split())
"""Fields of a response's usage that are left out if they are 0, empty or null."""
PARTS: Final = frozenset(_PARTS.split())
"""The kinds of parts that are changed. Others are rare, and some of them need fields that may be null."""
_CALLS: Final = ("tool-call", "builtin-tool-call")


def lean_messages(messages: list[dict[str, Any]], *, turn_id: str = "", session_id: str = "") -> list[dict[str, Any]]:
    """These messages, changed in place.

    Args:
        turn_id, session_id: of the turn whose entry they are in. Who parses them knows the ids from there.
    """
    for message in messages:
        _strip(message)
        if message["kind"] == "request" and message.get("timestamp", ...) is None:
            del message["timestamp"]
        if turn_id and message.get("run_id") == turn_id and message.get("conversation_id") == session_id:
            del message["run_id"], message["conversation_id"]
        if (usage := message.get("usage")) is not None:
            _strip_usage(message, usage)
        for part in message["parts"]:
            if part["part_kind"] in PARTS:
                _strip_part(part)
    return messages


def _strip(fields: dict[str, Any]) -> None:
    for name, value in list(fields.items()):
        if (value is None and name in NULLS) or (name in DEFAULTS and value == DEFAULTS[name]):
            del fields[name]


def _strip_part(part: dict[str, Any]) -> None:
    _strip(part)
    if part["part_kind"] in _CALLS and part.get("args", ...) is None:
        del part["args"]
    if part["part_kind"] == "user-prompt" and isinstance(part["content"], list):
        for item in part["content"]:
            if isinstance(item, dict):
                _strip(item)


def _strip_usage(message: dict[str, Any], usage: dict[str, Any]) -> None:
    for name, value in list(usage.items()):
        if name in USAGE and not value:
            del usage[name]
    if not usage:
        del message["usage"]
