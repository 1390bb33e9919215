"""A response as a whole: what was asked, as its turn's request has it, and what came of it."""

from __future__ import annotations

from typing import Any, Final

from sessions.errors import turn_error
from sessions.gateway.agents import ASSISTANT, canonical
from sessions.gateway.openai.ids import ResponseRef, conversation_id
from sessions.gateway.openai.responses.requests import OWN_NOTES
from sessions.gateway.openai.usage import response_usage
from sessions.protocol.public_errors import public_message
from sessions.protocol.turn import TurnRequest, TurnStatus
from sessions.protocol.turn_additions import NO_ADDITIONS, TurnAdditions
from sessions.store.turns import TurnRecord

_CUT: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
_OPEN: Final = {TurnStatus.QUEUED: "queued"}
_ENDED: Final = {TurnStatus.SUCCEEDED: "completed", TurnStatus.CANCELLED: "cancelled"}


def asked_of(ref: ResponseRef, record: TurnRecord, request: TurnRequest) -> dict[str, Any]:
    """What a response says of its request."""
    additions, settings = request.additions or NO_ADDITIONS, request.model_settings or {}
    notes = dict(record.metadata)
    own = notes.pop(OWN_NOTES, None)
    own = own if isinstance(own, dict) else {}
    previous = own.get("previous_response_id")
    return {
        "id": str(ref),
        "object": "response",
        "created_at": record.accepted_ms // 1000,
        "model": ASSISTANT if request.agent == canonical(ASSISTANT) else request.agent,
        "previous_response_id": str(ResponseRef(ref.session_id, ref.part, ref.leg - 1)) if ref.leg else previous,
        "conversation": {"id": conversation_id(ref.session_id)},
        "instructions": additions.instructions or None,
        "tools": _tools(additions),
        "tool_choice": _choice(additions),
        "parallel_tool_calls": settings.get("parallel_tool_calls", True),
        "text": {"format": _format(additions)},
        "reasoning": {"effort": settings.get("thinking") or None, "summary": None},
        "temperature": settings.get("temperature", 1.0),
        "top_p": settings.get("top_p", 1.0),
        "presence_penalty": settings.get("presence_penalty", 0.0),
        "frequency_penalty": settings.get("frequency_penalty", 0.0),
        "max_output_tokens": settings.get("max_tokens"),
        "metadata": notes,
        "background": bool(own.get("background")),
        "store": True,
        "truncation": "disabled",
        "service_tier": "default",
        "top_logprobs": 0,
        "max_tool_calls": None,
        "safety_identifier": None,
        "prompt_cache_key": None,
    }


def open_status(record: TurnRecord) -> str:
    """The status of a response that has no end yet."""
    return _OPEN.get(record.status, "in_progress")


def outcome(status: str, record: TurnRecord | None = None) -> dict[str, Any]:
    """The fields that say how a response stands.

    Args:
        status: of the response.
        record: of its turn, if that has ended with the response.
    """
    ended = record is not None and record.status.final
    error = None
    if record is not None and record.error is not None and status == "failed":
        found = turn_error(record.error.type, record.error.message)
        error = {"code": "server_error", "message": public_message(found)}
    cut = _CUT.get(record.finish_reason or "") if record is not None and status == "incomplete" else None
    return {
        "status": status,
        "completed_at": record.ended_ms // 1000 if ended and record is not None and record.ended_ms else None,
        "error": error,
        "incomplete_details": {"reason": cut} if cut else None,
        "usage": response_usage(record.usage) if ended and record is not None else None,
    }


def ended_status(record: TurnRecord) -> str:
    """The status of a response whose turn has ended."""
    status = _ENDED.get(record.status, "failed")
    return "incomplete" if status == "completed" and record.finish_reason in _CUT else status


def _tools(additions: TurnAdditions) -> list[dict[str, Any]]:
    return [
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description or None,
            "parameters": tool.parameters,
            "strict": tool.strict,
        }
        for tool in additions.tools
    ]


def _choice(additions: TurnAdditions) -> Any:
    choice = additions.tool_choice
    return {"type": "function", "name": choice[0]} if isinstance(choice, tuple) else choice or "auto"


def _format(additions: TurnAdditions) -> dict[str, Any]:
    schema = additions.output_schema
    if schema is None:
        return {"type": "text"}
    name = str(schema.get("title") or "output")
    return {"type": "json_schema", "name": name, "description": None, "schema": schema, "strict": True}
