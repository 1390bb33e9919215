"""Sessions in requests and replies: what a client sends to create or change one, and what it is shown."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from sessions.gateway.caller import DEFAULT_QUEUE
from sessions.gateway.parameters import ID_RULE, LONGEST_TTL, QUEUE, SESSION_ID, TEXT, TURN_ID
from sessions.gateway.strict_json import Body
from sessions.protocol.compaction_requests import Compact
from sessions.protocol.text import LONGEST_TITLE
from sessions.store.session_info import SessionInfo

_TITLE = (
    f"One line of up to {LONGEST_TITLE} characters; by default the beginning of the first message. `auto`: a model "
    "writes it in the background."
)
_METADATA = "Strings, numbers and booleans by name; up to 8 KiB."
_SEARCHABLE = "Whether its transcript is searchable."
_COMPACT = "`auto`: a model summarises the turns that leave its window of history, in the background."
MetadataValue = str | bool | int | float


class NewSession(Body):
    """A session to create."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"session_id": "chat-1"}, {"ttl": 3600}]})

    session_id: str | None = Field(None, description=f"{ID_RULE}. Generated if absent.", json_schema_extra=SESSION_ID)
    ttl: float | None = Field(
        None, gt=0, le=LONGEST_TTL, description="Seconds after its last use until it expires; by default it does not."
    )
    title: str | None = Field(None, description=_TITLE, json_schema_extra=TEXT)
    metadata: dict[str, MetadataValue] | None = Field(None, description=_METADATA)
    searchable: bool | None = Field(None, description=f"{_SEARCHABLE} By default not.")
    compact: Compact | None = Field(None, description=f"{_COMPACT} By default `off`.")
    queue: str = Field(
        DEFAULT_QUEUE,
        description="The queue whose workers serve it; one other than `turns` needs the right `configure`.",
        json_schema_extra=QUEUE,
    )


class Fork(Body):
    """A copy to create."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"session_id": "chat-2"}]})

    session_id: str | None = Field(
        None, description="The id of the new session; generated if absent.", json_schema_extra=SESSION_ID
    )
    at: str | None = Field(
        None,
        description="The id of the last turn to copy; by default all committed turns. It may be one that was replaced.",
        json_schema_extra=TURN_ID,
    )


class SessionPatch(Body):
    """What to change in a session; what is absent stays as it is."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"title": "Trip to Rome"}, {"metadata": {"folder": "travel", "draft": None}}]}
    )

    title: str | None = Field(None, description=_TITLE, json_schema_extra=TEXT)
    metadata: dict[str, MetadataValue | None] | None = Field(
        None, description="Merged into those that there are; null removes a name. Up to 8 KiB in total."
    )
    searchable: bool | None = Field(
        None,
        description=f"{_SEARCHABLE} true has its history indexed in the background, false removes it from the index.",
    )
    compact: Compact | None = Field(None, description=f"{_COMPACT} `off` deletes the summary.")


_EXAMPLE: dict[str, Any] = {
    "session_id": "chat-1",
    "title": "Where do otters sleep?",
    "metadata": {"folder": "animals"},
    "user_id": "alice",
    "created_at": "2026-11-26T12:00:00.120Z",
    "last_used_at": "2026-11-26T12:07:31.900Z",
    "message_count": 4,
    "turns": 2,
    "open_turns": 0,
    "requests": 2,
    "input_tokens": 122,
    "cache_read_tokens": 61,
    "cache_write_tokens": 0,
    "output_tokens": 18,
    "unpriced_requests": 0,
    "cost": 0.0031,
    "queue": "turns",
    "searchable": False,
    "compact": "off",
    "expires_at": "2026-11-26T13:07:31.900Z",
}


class ListedSession(BaseModel):
    """A session and its counts, as a list shows it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    session_id: str
    title: str = Field(description="Empty if there is no message yet, and nobody has set one.")
    metadata: dict[str, MetadataValue]
    user_id: str | None
    created_at: datetime
    last_used_at: datetime = Field(description="The last turn, change of state or memories, or checkpoint.")
    message_count: int
    turns: int = Field(description="The number of turns that have ended.")
    open_turns: int
    requests: int = Field(description="Requests to models.")
    input_tokens: int
    cache_read_tokens: int = Field(description="Of the input tokens: read from providers' prompt caches.")
    cache_write_tokens: int = Field(description="Of the input tokens: written to providers' prompt caches.")
    output_tokens: int
    unpriced_requests: int = Field(description="Requests whose price is not known: `cost` does not contain them.")
    cost: float | None = Field(description="US dollars; null if no request has a known price.")
    queue: str
    searchable: bool = Field(description=_SEARCHABLE)
    compact: Compact = Field(description=_COMPACT)
    expires_at: datetime | None = Field(description="Null: never, or a turn is open.")

    @classmethod
    def of(cls, info: SessionInfo) -> ListedSession:
        """A session as it is shown."""
        return cls(**listed_fields(info))


class SessionResource(ListedSession):
    """A session and its counts."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**_EXAMPLE, "agents": ["Assistant"], "expires_in": 3600.0}]}
    )

    agents: list[str] = Field(description="The agents that it knows by name.")
    expires_in: float | None = Field(description="Seconds; null: never, or a turn is open.")


class Sessions(BaseModel):
    """A page of sessions."""

    sessions: list[ListedSession]
    cursor: str | None = Field(description="Where to continue; null at the end.")
    complete: bool = Field(
        description="False while a worker adds the sessions of an older version to the lists: some are missing."
    )


def listed_fields(info: SessionInfo) -> dict[str, Any]:
    """The fields of a `ListedSession`."""
    fields = asdict(info)
    return {**fields, "message_count": fields.pop("messages")}


_REMOVED: Final[dict[str, Any]] = {
    "keys": 9,
    "turns": 2,
    "open_turns": 0,
    "memories": 3,
    "files": 1,
    "documents": 1,
    "chunks": 14,
    "passages": 6,
}


class Receipt(BaseModel):
    """What was removed."""

    model_config = ConfigDict(json_schema_extra={"examples": [_REMOVED]})

    keys: int
    turns: int
    open_turns: int = Field(description="The turns among them that had not ended.")
    memories: int
    files: int = Field(0, description="Files of messages and tool results, with their bytes.")
    documents: int
    chunks: int
    passages: int = Field(0, description="Passages of its transcript, in the index for searches.")


class DeletionReceipt(Receipt):
    """What was removed of several sessions."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"sessions": 4, **_REMOVED, "keys": 41, "turns": 12}]})

    sessions: int


class MessageResource(BaseModel):
    """One message of the transcript."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "role": "user",
                    "text": "My name is Alice",
                    "agent": "Assistant",
                    "turn_id": "chat-1~0192f5c4e8d17e3c8e3c5b7f0a9d4e21",
                    "at": "2026-11-26T12:00:00.124Z",
                }
            ]
        },
    )

    role: Literal["user", "assistant", "tool"]
    text: str
    agent: str = Field(description="The agent whose turn it was.")
    turn_id: str
    at: datetime = Field(description="When that turn began.")
    tool: str | None = Field(None, description="The tool that was called (assistant), or that returned (tool).")
    call_id: str | None = None
    args: Any = None
    incomplete: str = Field("", description="How the turn ended, if it did not complete.")
    parts: list[dict[str, Any]] = Field(
        [],
        description="Of a message, or a tool's return, with files: its texts and files in order.",
    )
    user_id: str | None = Field(None, description="Who sent that turn's message, if that was not the session's owner.")


class Messages(BaseModel):
    """A page of the transcript."""

    messages: list[MessageResource]
    cursor: int | None = Field(description="Where to continue; null at the end.")
