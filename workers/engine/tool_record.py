"""A tool call as it is stored in the journal and shown in events."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from pydantic import TypeAdapter
from pydantic_ai.exceptions import CallDeferred
from pydantic_ai.messages import ToolReturn
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from sessions.protocol.call import CallKind
from sessions.protocol.event import SHOWN_CHARS
from sessions.protocol.finite import non_finite
from sessions.protocol.state_ops import StateOp
from sessions.protocol.turn import Usage
from sessions.tools.decorator import OutsideResult
from workers.engine.attachments import without_bytes
from workers.engine.delegation import AskAgent
from workers.engine.well_formed import well_formed, well_formed_result, well_formed_values

_MESSAGE_CHARS: Final = 500

Status = Literal["started", "deferred", "ok", "retry", "failed", "unknown", "error"]


@dataclass(slots=True)
class ToolRecord:
    """A tool call as it is stored in the journal.

    Attributes:
        result: for `ok` and `unknown`, the result.
        wrapped: whether the tool itself returned a ToolReturn.
        message: for `retry`, `failed` and `error`, the tool's message.
        too_large: for `error`, whether the result was too large; otherwise the tool failed.
        state: the changes that the call made to the session's state.
        ask: for `deferred`, what it waits for.
        metadata: for `deferred`, the tool's metadata.
        waits_for: for `deferred`, the id of the other agent's turn.
        doubts: for `started`, how often a person decided to run the call again after a crash.
        usage: the usage of the other agent's turn.
    """

    status: Status
    result: ToolReturn[Any] | None = None
    wrapped: bool = False
    message: str = ""
    too_large: bool = False
    state: list[StateOp] = field(default_factory=list)
    ask: CallKind = CallKind.APPROVAL
    metadata: dict[str, Any] = field(default_factory=dict)
    waits_for: str | None = None
    doubts: int = 0
    usage: Usage | None = None


_RECORD = TypeAdapter(ToolRecord)


def load_call(raw: bytes) -> ToolRecord:
    """Parse a journal entry of a tool call."""
    return _RECORD.validate_json(raw)


def dump_call(record: ToolRecord) -> bytes:
    """Serialize a call for the journal.

    Raises:
        PydanticSerializationError: the tool's result cannot be represented in JSON.
    """
    return _RECORD.dump_json(record, warnings=False)


def dump_call_or_failure(record: ToolRecord, tool: str) -> bytes:
    """Serialize a call for the journal; as a failed one if its result cannot be represented in JSON."""
    try:
        try:
            raw = dump_call(record)
        except PydanticSerializationError:
            record = _well_formed(record)
            raw = dump_call(record)
    except (ValueError, TypeError, RecursionError) as error:
        return dump_call(failed_call(well_formed(f"tool {tool!r} returned something that is not JSON: {error}")))
    found = non_finite(record.result and record.result.return_value) if raw.count(b"null") > _NULLS else None
    if found is None:
        return raw
    # It would be stored as null, and the model would see another value than the tool returned.
    message = f"tool {tool!r} returned {found}, a number that JSON cannot represent; return None or a string instead"
    return dump_call(failed_call(well_formed(message)))


def _well_formed(record: ToolRecord) -> ToolRecord:
    result = record.result
    if result is not None:
        value, metadata = well_formed_result(result.return_value), well_formed_result(result.metadata)
        result = replace(result, return_value=value, content=well_formed_values(result.content), metadata=metadata)
    message, asked = well_formed(record.message), well_formed_result(record.metadata)
    return replace(record, result=result, message=message, metadata=asked)


def deferred_call(asked: OutsideResult | CallDeferred) -> ToolRecord:
    """The record of a call whose result comes from outside."""
    kind = CallKind.TURN if isinstance(asked, AskAgent) else CallKind.RESULT
    waits_for = asked.waits_for if isinstance(asked, OutsideResult) else None
    return ToolRecord("deferred", ask=kind, metadata=asked.metadata or {}, waits_for=waits_for)


def successful_call(value: Any) -> ToolRecord:
    """The record of a call that returned."""
    if isinstance(value, ToolReturn):
        return ToolRecord("ok", value, wrapped=True)
    return ToolRecord("ok", ToolReturn(return_value=value))


_NULLS: Final = dump_call(successful_call("")).count(b"null")  # in an entry whose result contains none


def failed_call(message: str, *, too_large: bool = False) -> ToolRecord:
    """The record of a call that fails its turn."""
    return ToolRecord("error", message=message[:_MESSAGE_CHARS], too_large=too_large)


def event_result(value: Any) -> Any:
    """A result for an event: the JSON value if it is short, otherwise the beginning of its text."""
    value = without_bytes(value)
    if not isinstance(value, str):
        text = to_json(value, fallback=str).decode()
        if len(text) <= SHOWN_CHARS:
            return to_jsonable_python(value, fallback=str)
        value = text
    return value if len(value) <= SHOWN_CHARS else value[: SHOWN_CHARS - 1] + "…"
