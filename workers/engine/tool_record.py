"""A tool call as it stands in the journal, and as its events show it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from pydantic import TypeAdapter
from pydantic_ai.exceptions import CallDeferred
from pydantic_ai.messages import ToolReturn
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from sessions.protocol.call import AskKind
from sessions.protocol.finite import non_finite
from sessions.protocol.state_ops import StateOp
from sessions.protocol.turn import Usage
from sessions.tools.decorator import OutsideResult
from workers.engine.delegation import AskAgent
from workers.engine.well_formed import well_formed, well_formed_result, well_formed_values

SHOWN_CHARS: Final = 2000
_MESSAGE_CHARS: Final = 500

Status = Literal["started", "deferred", "ok", "retry", "failed", "unknown", "error"]


@dataclass(slots=True)
class ToolRecord:
    """A tool call as it stands in the journal.

    Attributes:
        result: of a call that is ok; `wrapped` says that the tool itself returned a ToolReturn.
        message: what the tool said when it asked for another try, or failed.
        too_large: for `error`: it is the result's size, else the tool itself failed.
        state: the changes of state that the call made.
        ask: for `deferred`, what it waits for, with the tool's `metadata` and `waits_for` (the id of an agent's turn).
        usage: what the turn of the agent cost that this call asked.
        doubts: for `started`, how often a person had it run again after a crash.
    """

    status: Status
    result: ToolReturn[Any] | None = None
    wrapped: bool = False
    message: str = ""
    too_large: bool = False
    state: list[StateOp] = field(default_factory=list)
    ask: AskKind = AskKind.APPROVAL
    metadata: dict[str, Any] = field(default_factory=dict)
    waits_for: str | None = None
    doubts: int = 0
    usage: Usage | None = None


_RECORD = TypeAdapter(ToolRecord)


def recorded_call(raw: bytes) -> ToolRecord:
    """The call in a journal's entry."""
    return _RECORD.validate_json(raw)


def call_entry(record: ToolRecord) -> bytes:
    """The journal's entry of a call.

    Raises:
        PydanticSerializationError: the tool returned something that is not JSON.
    """
    return _RECORD.dump_json(record, warnings=False)


def stored_call(record: ToolRecord, tool: str) -> bytes:
    """The journal's entry of a call; that of a failed one, if what the tool returned cannot be JSON."""
    try:
        try:
            raw = call_entry(record)
        except PydanticSerializationError:
            record = _well_formed(record)
            raw = call_entry(record)
    except (ValueError, TypeError, RecursionError) as error:
        return call_entry(failed_call(well_formed(f"tool {tool!r} returned something that is not JSON: {error}")))
    found = non_finite(record.result and record.result.return_value) if raw.count(b"null") > _NULLS else None
    if found is None:
        return raw
    # Stored, it would be a null, and the model would be told something else.
    said = f"tool {tool!r} returned {found}, a number that JSON does not have; return None or a text instead"
    return call_entry(failed_call(well_formed(said)))


def _well_formed(record: ToolRecord) -> ToolRecord:
    result = record.result
    if result is not None:
        value, metadata = well_formed_result(result.return_value), well_formed_result(result.metadata)
        result = replace(result, return_value=value, content=well_formed_values(result.content), metadata=metadata)
    message, asked = well_formed(record.message), well_formed_result(record.metadata)
    return replace(record, result=result, message=message, metadata=asked)


def called_out(asked: OutsideResult | CallDeferred) -> ToolRecord:
    """A call whose result comes from elsewhere."""
    kind = AskKind.TURN if isinstance(asked, AskAgent) else AskKind.RESULT
    waits_for = asked.waits_for if isinstance(asked, OutsideResult) else None
    return ToolRecord("deferred", ask=kind, metadata=asked.metadata or {}, waits_for=waits_for)


def returned_call(value: Any) -> ToolRecord:
    """A call that is ok."""
    if isinstance(value, ToolReturn):
        return ToolRecord("ok", value, wrapped=True)
    return ToolRecord("ok", ToolReturn(return_value=value))


_NULLS: Final = call_entry(returned_call("")).count(b"null")  # of an entry whose result has none


def failed_call(message: str, *, too_large: bool = False) -> ToolRecord:
    """A call that ends its turn."""
    return ToolRecord("error", message=message[:_MESSAGE_CHARS], too_large=too_large)


def shown(value: Any) -> Any:
    """A result as an event shows it: JSON, or the beginning of its text."""
    if not isinstance(value, str):
        text = to_json(value, fallback=str).decode()
        if len(text) <= SHOWN_CHARS:
            return to_jsonable_python(value, fallback=str)
        value = text
    return value if len(value) <= SHOWN_CHARS else value[: SHOWN_CHARS - 1] + "…"
