"""A session that is being imported: its records are stored where nobody sees them, until one script creates it.

What is stored expires by itself if this process dies before that.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import ValidationError

from sessions.client.backend import NewSession
from sessions.client.fleet_client import FleetClient
from sessions.errors import BadRequest, InvalidExport, InvalidState
from sessions.protocol.agent import AgentConfig
from sessions.protocol.state_ops import APP, TEMP, USER, check_field, dump
from sessions.protocol.text import LONGEST_TITLE, default_title
from sessions.store.checkpoint import Checkpoint
from sessions.store.files import PIECE_BYTES, StoredFile
from sessions.store.history import HistoryEntry
from sessions.store.keys import SessionKeys
from sessions.store.memory_record import Memory
from sessions.store.session_info import MetadataValue, merged_metadata
from sessions.store.session_records import COPY_SECONDS
from sessions.store.state import session_scope
from sessions.transfer.media import with_ids
from sessions.transfer.messages import first_prompt
from sessions.transfer.records import (
    AgentRecord,
    CheckpointRecord,
    End,
    FilePiece,
    FileRecord,
    MemoryRecord,
    PastTurn,
    Record,
    SessionHeader,
    StateRecord,
    explained,
)


class Staging:
    """One import. `add` all records, then `create` the session; or `discard` what was stored."""

    def __init__(self, fleet: FleetClient, keys: SessionKeys, new: NewSession, copy: str) -> None:
        self._fleet = fleet
        self._keys = keys
        self._new = new
        self._copy = copy
        self._state: dict[str, bytes] = {}
        self._agents: dict[str, bytes] = {}
        self._turns: list[bytes] = []
        self._memories: list[Memory] = []
        self._checkpoints: list[Checkpoint] = []
        self._file: FileRecord | None = None
        self._files: list[str] = []
        self._pieces = self._size = self._bytes = 0
        self._header = SessionHeader()
        self._newest = 0
        self._first_prompt = ""
        self.counts: Counter[str] = Counter(turns=0, messages=0, memories=0, files=0)
        self.left_out: list[str] = []

    @property
    def owner(self) -> str | None:
        """The user that the session belongs to."""
        return self._new.user_id or self._header.user_id

    async def add(self, records: Sequence[Record], *, store: bool) -> None:
        """Check some records and, unless the session exists already, store them.

        Raises:
            InvalidExport: a record cannot be used here. StoreFull, StoreUnavailable.
        """
        if store:
            await self._fleet.admission.refuse_when_full()
        for record in records:
            if isinstance(record, FileRecord | FilePiece | End):
                await self._take_file(record, store=store)
            else:
                self._take(record)
        if store:
            await self._store()
        if self._turns and self._new.progress is not None:
            self._new.progress(self.counts["turns"], self._header.turns)
        self._turns, self._memories, self._checkpoints = [], [], []

    def _take(self, record: Record) -> None:
        match record:
            case SessionHeader():
                self._header = record
            case AgentRecord():
                self._agents[record.name] = _agent(record)
            case StateRecord():
                self._add_state(record)
            case CheckpointRecord():
                self._checkpoints.append(_checkpoint(record))
                self._newest = max(self._newest, record.number)
            case MemoryRecord():
                self._memories.append(self._memory(record))
            case PastTurn():
                self._turns.append(self._turn(record))
            case _:  # documents are added once the session exists
                return

    async def _store(self) -> None:
        stores, keys, copy = self._fleet.stores, self._keys, self._copy
        await stores.records.store_history(keys, copy, self._turns)
        await stores.memory.copies.store(session_scope(keys), self._memories, copy, COPY_SECONDS)
        if self._checkpoints:
            await stores.records.store_checkpoints(keys, copy, self._checkpoints)

    async def create(self, origin: str) -> None:
        """Create the session from what was stored.

        Raises:
            SessionExists: the id is taken.
        """
        header, new = self._header, self._new
        spent = {
            "requests": header.requests,
            "input_tokens": header.input_tokens,
            "cache_read_tokens": header.cache_read_tokens,
            "cache_write_tokens": header.cache_write_tokens,
            "output_tokens": header.output_tokens,
            "cost": header.cost,
            "unpriced_requests": header.unpriced_requests,
            "checkpoint": self._newest,
        }
        await self._fleet.limits.refuse_new_session(self._keys, self.owner)
        await self._fleet.stores.records.create(
            self._keys,
            (),
            user_id=self.owner,
            queue=new.queue or header.queue,
            ttl=header.ttl if new.ttl is None else new.ttl,
            messages=self.counts["messages"],
            state=self._state,
            agents=self._agents,
            origin=origin,
            title=(header.title or "")[:LONGEST_TITLE] or default_title(self._first_prompt),
            metadata=self._metadata(),
            copy=self._copy,
            stored=self.counts["turns"],
            counts={name: str(value) for name, value in spent.items() if value},
        )

    async def discard(self) -> None:
        """Remove what was stored."""
        files = [*self._files, *([] if self._file is None else [self._file.id])]
        await self._fleet.stores.records.discard_copy(self._keys, self._copy, files)

    # --- records ----------------------------------------------------------------------------------------

    def _add_state(self, record: StateRecord) -> None:
        if record.name.startswith((USER, APP, TEMP)):
            self.left_out.append(f"the state {record.name!r}, which is not the session's own")
            return
        try:
            self._state[check_field(record.name)] = dump(record.value).encode()
        except InvalidState as error:
            self.left_out.append(f"the state {record.name[:80]!r}: {error}")

    def _metadata(self) -> dict[str, MetadataValue]:
        """The metadata in the file, as far as a session can have them."""
        kept = {name: value for name, value in self._header.metadata.items() if isinstance(value, MetadataValue)}
        for name in self._header.metadata.keys() - kept.keys():
            self.left_out.append(f"the metadata {name!r}, which are neither a text, nor a number, nor true or false")
        try:
            return merged_metadata({}, kept)
        except BadRequest as error:
            self.left_out.append(f"the metadata of the session: {error}")
            return {}

    def _memory(self, record: MemoryRecord) -> Memory:
        self.counts["memories"] += 1
        if self.counts["memories"] > self._fleet.settings.memory_limit:
            raise InvalidExport("it has more memories than SESSIONFLEET_MEMORY_LIMIT allows: raise that limit first")
        return Memory(
            record.id,
            record.text,
            record.kind,
            record.metadata,
            record.created_ms,
            record.updated_ms,
            record.version,
        )

    def _turn(self, record: PastTurn) -> bytes:
        messages = with_ids(json.dumps(record.messages, separators=(",", ":")).encode(), self._file_id)
        if len(messages) > self._fleet.settings.result_limit_bytes:
            raise InvalidExport(
                f"turn {record.turn} has {len(messages):,} bytes of messages, and SESSIONFLEET_RESULT_LIMIT_BYTES "
                "is less: raise that limit first"
            )
        self._first_prompt = self._first_prompt or first_prompt(record.messages)
        self.counts["turns"] += 1
        self.counts["messages"] += record.count
        return HistoryEntry(
            turn=record.turn,
            agent=record.agent,
            at_ms=record.at_ms,
            count=record.count,
            messages=messages,
            incomplete=record.incomplete,
            sender=record.sender,
            adapter=record.adapter if record.native is not None else "",
            native=_one_line(record.native) if record.native is not None else b"",
        ).dump()

    # --- files ------------------------------------------------------------------------------------------

    async def _take_file(self, record: FileRecord | FilePiece | End, *, store: bool) -> None:
        if isinstance(record, FilePiece):
            await self._add_piece(record.data, store=store)
            return
        await self._end_file(store=store)
        if isinstance(record, FileRecord):
            self._begin_file(record)

    def _file_id(self, file_id: str) -> str:
        """The id of a file here. With encryption it is keyed, so that it confirms no guess of the content."""
        keyring = self._fleet.keyring
        return keyring.digest(file_id.encode()) if keyring.ids else file_id

    def _begin_file(self, record: FileRecord) -> None:
        record = record.model_copy(update={"id": self._file_id(record.id)})
        settings = self._fleet.settings
        self.counts["files"] += 1
        self._bytes += record.size
        if record.size > settings.file_limit_bytes:
            raise InvalidExport(
                f"file {record.name!r} has {record.size:,} bytes, and SESSIONFLEET_FILE_LIMIT_BYTES is less: raise "
                "that limit first"
            )
        if self.counts["files"] > settings.files_limit or self._bytes > settings.files_limit_bytes:
            raise InvalidExport(
                "it has more files than SESSIONFLEET_FILES_LIMIT and SESSIONFLEET_FILES_LIMIT_BYTES allow: raise "
                "those limits first"
            )
        self._file, self._pieces, self._size = record, 0, 0

    async def _add_piece(self, data: bytes, *, store: bool) -> None:
        file = self._file
        if file is None:
            raise InvalidExport("a piece of a file comes before its file")
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            self._size += len(piece)
            if store:
                await self._fleet.stores.files.store_piece(
                    self._keys, file.id, self._pieces, piece, self._copy, COPY_SECONDS
                )
            self._pieces += 1

    async def _end_file(self, *, store: bool) -> None:
        file = self._file
        if file is None:
            return
        if self._size != file.size:
            raise InvalidExport(f"file {file.name!r} has {self._size:,} bytes, and should have {file.size:,}")
        self._files.append(file.id)
        self._file = None
        if store:
            added = datetime.fromtimestamp(file.added_ms / 1000, UTC)
            stored = StoredFile(file.id, file.name, file.media_type, file.size, added)
            await self._fleet.stores.files.store_details(self._keys, stored, self._pieces, self._copy, COPY_SECONDS)


def _agent(record: AgentRecord) -> bytes:
    try:
        AgentConfig.model_validate(record.config)
    except ValidationError as error:
        raise InvalidExport(f"the configuration of agent {record.name!r}: {explained(error)}") from None
    return json.dumps(record.config).encode()


def _one_line(native: str) -> bytes:
    """JSON without the line ends that would end its part of the entry."""
    try:
        return json.dumps(json.loads(native), separators=(",", ":")).encode()
    except ValueError as error:
        raise InvalidExport(f"`native` of a turn is not JSON: {error}") from None


def _checkpoint(record: CheckpointRecord) -> Checkpoint:
    return Checkpoint(
        number=record.number,
        at_ms=record.at_ms,
        state=record.state,
        agents=record.agents,
        history=record.history,
        messages=record.messages,
        memories=record.memories,
    )
