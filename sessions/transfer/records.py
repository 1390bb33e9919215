"""A session as a sequence of records: what an export contains, in our own formats and on the way to a gateway.

    session, agents, state, checkpoints, memories, files with their pieces, turns, documents with their passages, end

The first record names the format and its version, and the last one counts the others, so that a truncated export is
noticed. Within the version, a reader ignores fields that it does not know, and refuses records that it does not know.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from sessions.errors import InvalidExport
from sessions.transfer.messages import check_messages

FORMAT: Final = "sessionfleet"
VERSION: Final = 1


class _Record(BaseModel):
    # Errors name a place in the file; they do not quote what people wrote.
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, ser_json_bytes="base64", val_json_bytes="base64")


class SessionHeader(_Record):
    """The first record: the session itself. Times are in milliseconds since the epoch, cost is in US dollars."""

    type: Literal["session"] = "session"
    format: Literal["sessionfleet"] = FORMAT
    version: int = VERSION
    session_id: str | None = None
    user_id: str | None = None
    title: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    queue: str = "turns"
    ttl: float | None = None
    created_ms: int | None = None
    exported_ms: int | None = None
    turns: int = 0
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    unpriced_requests: int = 0


class AgentRecord(_Record):
    """The configuration of an agent that the session knows by name."""

    type: Literal["agent"] = "agent"
    name: str
    config: dict[str, Any]


class StateRecord(_Record):
    """One value of the session's state."""

    type: Literal["state"] = "state"
    name: str
    value: Any = None


class CheckpointRecord(_Record):
    """A checkpoint: state and agents at one moment, and the position in the history."""

    type: Literal["checkpoint"] = "checkpoint"
    number: int = Field(ge=1)
    at_ms: int
    state: dict[str, Any]
    agents: dict[str, Any]
    history: int
    messages: int
    memories: int = 0


class MemoryRecord(_Record):
    """One memory of the session."""

    type: Literal["memory"] = "memory"
    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    text: str
    kind: Literal["short", "long"]
    metadata: dict[str, Any] = Field(default_factory=dict)
    created_ms: int
    updated_ms: int = 0
    version: int = Field(1, ge=1)


class FileRecord(_Record):
    """A file that messages refer to; its pieces come next."""

    type: Literal["file"] = "file"
    id: str = Field(pattern=r"^[0-9a-f]{64}$")
    name: str
    media_type: str
    size: int = Field(ge=1)
    added_ms: int


class FilePiece(_Record):
    """A piece of the file before it, in base64."""

    type: Literal["piece"] = "piece"
    data: Base64Bytes

    @classmethod
    def of(cls, data: bytes) -> FilePiece:
        """A piece with these bytes, which are not in base64."""
        return cls.model_construct(data=data)


class PastTurn(_Record):
    """One committed turn, with its messages in pydantic-ai's format.

    Attributes:
        count: the number of messages, as a person would count them.
        incomplete: how the turn ended, if it did not complete.
        sender: the user who sent the message, if that was not the session's owner.
        adapter: whose session object wrote it (`sessions.adapters`); native: what that library stored, as JSON.
    """

    type: Literal["turn"] = "turn"
    turn: str = Field(pattern=r"^[0-9a-f]{32}$")
    agent: str
    at_ms: int
    count: int = Field(ge=0)
    incomplete: str = ""
    sender: str | None = None
    adapter: str = ""
    native: str | None = None
    messages: list[dict[str, Any]]


class DocumentRecord(_Record):
    """A document of the session's knowledge; its passages come next."""

    type: Literal["document"] = "document"
    source: str
    collection: str
    kind: str = ""
    bytes: int = 0
    pages: int | None = None
    chunks: int = 0
    metadata: dict[str, Any] = Field(default_factory=dict)
    added_ms: int | None = None


class PassageRecord(_Record):
    """A passage of the document before it; `start` and `end` are positions in the document's text."""

    type: Literal["passage"] = "passage"
    number: int
    text: str
    start: int = Field(ge=0)
    end: int = Field(ge=0)
    page: int | None = None
    heading: str | None = None


class End(_Record):
    """The last record: how many records of each type came before it."""

    type: Literal["end"] = "end"
    counts: dict[str, int]


Record = (
    SessionHeader
    | AgentRecord
    | StateRecord
    | CheckpointRecord
    | MemoryRecord
    | FileRecord
    | FilePiece
    | PastTurn
    | DocumentRecord
    | PassageRecord
    | End
)
_ADAPTER: Final[TypeAdapter[Record]] = TypeAdapter(Annotated[Record, Field(discriminator="type")])


def dump_record(record: Record) -> bytes:
    """A record as one line of JSON, with its end."""
    try:
        return record.model_dump_json(exclude_none=True).encode() + b"\n"
    except PydanticSerializationError:  # half of a surrogate pair, which only escaped JSON can contain
        return json.dumps(record.model_dump(mode="json", exclude_none=True)).encode() + b"\n"


def load_record(line: bytes, place: str) -> Record:
    """A record from its line.

    Args:
        line: the line of JSON.
        place: where it is, for errors: "chat.jsonl, line 3".

    Raises:
        InvalidExport: it is not a record of this version; the message names the place.
    """
    try:
        record = _ADAPTER.validate_json(line)
    except ValidationError as error:
        escaped = _escaped_record(line)
        if escaped is None:
            raise InvalidExport(f"{place}: {explained(error)}") from None
        record = escaped
    if isinstance(record, SessionHeader) and record.version != VERSION:
        raise InvalidExport(
            f"{place}: the export has version {record.version}, and this Sessionfleet reads version {VERSION}: "
            "upgrade it"
        )
    if isinstance(record, PastTurn):
        check_messages(record.messages, place)
    return record


def _escaped_record(line: bytes) -> Record | None:
    """A record with an escaped half of a surrogate pair, which pydantic's own parser refuses; None if it is none."""
    if b"\\ud" not in line.lower():
        return None
    try:
        return _ADAPTER.validate_python(json.loads(line))
    except (ValueError, RecursionError):
        return None


def explained(error: ValidationError) -> str:
    """The first problem, with the name of its field."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(step) for step in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


def checked_sequence(records: Iterable[Record], name: str) -> Iterator[Record]:
    """The records, after checks of their order and of the counts at the end.

    Raises:
        InvalidExport: the first is not the session's, something follows the end, or records are missing.
    """
    counts: Counter[str] = Counter()
    last: Record | None = None
    for record in records:
        if last is None and not isinstance(record, SessionHeader):
            raise InvalidExport(f"{name}: the export does not begin with a record of the type 'session'")
        if isinstance(last, End) or (last is not None and isinstance(record, SessionHeader)):
            raise InvalidExport(f"{name}: there is more than one session; import one at a time")
        if isinstance(record, End) and record.counts != dict(counts):
            raise InvalidExport(
                f"{name}: records are missing: it has {_counted(counts)}, and should have {_counted(record.counts)}"
            )
        if not isinstance(record, FilePiece):  # the size of a file says whether all of its pieces are there
            counts[record.type] += 1
        last = record
        yield record
    if not isinstance(last, End):
        raise InvalidExport(f"{name}: the export is not complete: it was cut off after {_counted(counts)}")


def _counted(counts: dict[str, int]) -> str:
    return json.dumps(counts, sort_keys=True)
