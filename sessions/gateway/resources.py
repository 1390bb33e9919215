"""The contents of responses, as OpenAPI shows them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sessions.api.turns import TurnInfo
from sessions.gateway.segments import segment
from sessions.protocol.turn import TurnError, TurnStatus, Usage
from sessions.store.turns import TurnRecord

_TURN_ID = "chat-1~0192f5c4e8d17e3c8e3c5b7f0a9d4e21"
_TURN = f"/v1/sessions/chat-1/turns/{_TURN_ID}"


class Links(BaseModel):
    """Where to continue."""

    self: str
    events: str
    cancel: str
    approvals: str | None = None

    @classmethod
    def to(cls, path: str, *, approvals: bool = True) -> Links:
        """The links of a turn or operation at a path."""
        below = {name: f"{path}/{name}" for name in ("events", "cancel", "approvals")}
        return cls(self=path, **(below if approvals else {**below, "approvals": None}))


class TurnResource(BaseModel):
    """A turn: one message and its outcome."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": _TURN_ID,
                    "session_id": "chat-1",
                    "status": "succeeded",
                    "attempt": 1,
                    "result": "Hello Alice!",
                    "error": None,
                    "usage": {
                        "requests": 1,
                        "input_tokens": 61,
                        "cache_read_tokens": 0,
                        "cache_write_tokens": 0,
                        "output_tokens": 9,
                        "tool_calls": 0,
                        "unpriced_requests": 0,
                        "cost": 0.0002,
                    },
                    "finish_reason": "stop",
                    "model": "openai:gpt-5",
                    "metadata": {"request_id": "r-81"},
                    "accepted_at": "2026-11-26T12:00:00.120Z",
                    "not_before": None,
                    "schedule_id": None,
                    "started_at": "2026-11-26T12:00:00.124Z",
                    "ended_at": "2026-11-26T12:00:01.480Z",
                    "links": {
                        "self": _TURN,
                        "events": f"{_TURN}/events",
                        "cancel": f"{_TURN}/cancel",
                        "approvals": f"{_TURN}/approvals",
                    },
                }
            ]
        }
    )

    id: str
    session_id: str
    status: TurnStatus
    attempt: int = Field(description="How often it was begun: 0 while it is queued.")
    result: Any = Field(None, description="The answer: a text, or an object of the agent's output schema.")
    error: TurnError | None = Field(None, description="Why it ended without an answer.")
    usage: Usage | None = None
    finish_reason: str | None = Field(
        None, description="Why the model stopped: stop; length or content_filter if the answer was cut off."
    )
    model: str | None = Field(None, description="The model that gave the answer; of several, the one that answered.")
    metadata: dict[str, Any] = Field({}, description="What the caller attached to the message.")
    accepted_at: datetime
    not_before: datetime | None = Field(None, description="The time that it was scheduled for.")
    schedule_id: str | None = Field(None, description="The schedule that sent the message.")
    started_at: datetime | None = None
    ended_at: datetime | None = None
    links: Links

    @classmethod
    def of(
        cls, record: TurnRecord, turn_id: str, path: str, session_id: str, *, approvals: bool = True
    ) -> TurnResource:
        """A record as it is shown at a path."""
        return cls(
            id=turn_id,
            session_id=session_id,
            status=record.status,
            attempt=record.attempt,
            result=None if record.result is None else json.loads(record.result)["output"],
            error=record.error,
            usage=record.usage,
            finish_reason=record.finish_reason,
            model=record.model,
            metadata=record.metadata,
            accepted_at=_time(record.accepted_ms),
            schedule_id=record.schedule_id,
            not_before=None if record.not_before_ms is None else _time(record.not_before_ms),
            started_at=None if record.started_ms is None else _time(record.started_ms),
            ended_at=None if record.ended_ms is None else _time(record.ended_ms),
            links=Links.to(path, approvals=approvals),
        )


class ListedTurn(BaseModel):
    """A turn in a list: without its answer, with the message."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": _TURN_ID,
                    "session_id": "chat-1",
                    "status": "running",
                    "agent": "Assistant",
                    "message": "My name is Alice",
                    "metadata": {"request_id": "r-81"},
                    "attempt": 1,
                    "error": None,
                    "usage": None,
                    "finish_reason": None,
                    "accepted_at": "2026-11-26T12:00:00.120Z",
                    "not_before": None,
                    "started_at": "2026-11-26T12:00:00.124Z",
                    "ended_at": None,
                    "links": {
                        "self": _TURN,
                        "events": f"{_TURN}/events",
                        "cancel": f"{_TURN}/cancel",
                        "approvals": f"{_TURN}/approvals",
                    },
                }
            ]
        }
    )

    id: str
    session_id: str
    status: TurnStatus
    agent: str
    message: str
    metadata: dict[str, Any] = Field({}, description="What the caller attached to the message.")
    attempt: int = Field(description="How often it was begun: 0 while it is queued.")
    error: TurnError | None = Field(None, description="Why it ended without an answer.")
    usage: Usage | None = None
    finish_reason: str | None = Field(None, description="Why the model stopped.")
    accepted_at: datetime
    not_before: datetime | None = Field(None, description="The time that it was scheduled for.")
    started_at: datetime | None = None
    ended_at: datetime | None = None
    links: Links

    @classmethod
    def of(cls, turn: TurnInfo, session_id: str) -> ListedTurn:
        """A turn as it was listed."""
        return cls(
            id=turn.id,
            session_id=session_id,
            status=turn.status,
            agent=turn.agent,
            message=turn.message,
            metadata=turn.metadata,
            attempt=turn.attempt,
            error=turn.error,
            usage=turn.usage,
            finish_reason=turn.finish_reason,
            accepted_at=turn.accepted_at,
            not_before=turn.not_before,
            started_at=turn.started_at,
            ended_at=turn.ended_at,
            links=Links.to(turn_path(session_id, turn.id)),
        )


class ListedTurns(BaseModel):
    """A page of a session's turns."""

    turns: list[ListedTurn]
    cursor: str | None = Field(description="Where to continue; null at the end.")


def turn_path(session_id: str, turn_id: str) -> str:
    """The location of a turn."""
    return f"/v1/sessions/{segment(session_id)}/turns/{segment(turn_id)}"


def operation_path(session_id: str, operation_id: str) -> str:
    """The location of an operation."""
    return f"/v1/sessions/{segment(session_id)}/operations/{segment(operation_id)}"


def team_path(run_id: str) -> str:
    """The location of a team's run."""
    return f"/v1/teams/{segment(run_id)}"


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
