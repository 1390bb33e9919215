"""pydantic-ai's conversation store, on sessions of Sessionfleet.

    store = FleetConversationStore()
    conversation = await store.load("17", scope="ada") or Conversation(conversation_id="17")
    result = await agent.run("Hello", conversation=conversation)
    await store.save(result, scope="ada")

A conversation is a session: `Session("17").history()` shows it, and a worker can continue it. Its messages need no
conversion, for Sessionfleet keeps messages of pydantic-ai.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Unpack

try:
    from pydantic import TypeAdapter
    from pydantic_ai import DeferredToolRequests, ModelMessage, ModelMessagesTypeAdapter, RunUsage
    from pydantic_ai.conversation_store import (
        ConversationConflict,
        ConversationEntry,
        ConversationRecord,
        ConversationStore,
    )
    from pydantic_ai.messages import repair_messages
    from pydantic_core import to_json
except ImportError as error:
    from sessions.errors import MissingExtra

    raise MissingExtra("pydantic-ai is not installed: run `pip install 'sessionfleet[worker]'`") from error

from sessions.adapters.library_session import LibrarySession, SessionOptions, messages_in
from sessions.api.session import Session
from sessions.errors import BadRequest
from sessions.protocol.lean_messages import lean_messages
from sessions.store.adapter_store import HistoryChange, SeenHistory
from sessions.store.history import HistoryEntry
from sessions.store.keys import new_turn_part
from sessions.transfer.conversation import DEFAULT_AGENT
from sessions.transfer.messages import count_messages, first_prompt, is_prompt

ADAPTER: Final = "pydantic-ai"
_PAGE: Final = 1000
_KNOWN: Final = 20_000
_USAGE: Final = TypeAdapter(RunUsage)
_DEFERRED: Final = TypeAdapter[DeferredToolRequests | None](DeferredToolRequests | None)


class FleetConversationStore(ConversationStore):
    """Conversations of pydantic-ai that any process can continue.

    A conversation's `scope` is the user that its session belongs to. Forks have copies of the messages, so deleting a
    conversation (`delete`, or `session.delete()`) erases them, whichever forks there are. A conversation that a worker
    has continued has its turns, too, and another revision.

    Args:
        user_id: who uses the store: conversations of others can be used as far as they are shared with that user, and
            new ones belong to it. None for a trusted process.
        agent: the name under which answers are in the history, and with which `Session.chat` continues them.
        options: `tenant`, `queue`, `ttl` and `settings`, as in `sessions.Session`.
    """

    def __init__(
        self, user_id: str | None = None, *, agent: str = DEFAULT_AGENT, **options: Unpack[SessionOptions]
    ) -> None:
        self._user_id = user_id
        self._agent = agent
        self._options = options
        # Entries are asked for without their conversation: those that were read or saved here lately.
        self._homes: OrderedDict[str, str] = OrderedDict()

    def session(self, conversation_id: str) -> Session:
        """The session in which a conversation is stored.

        Raises:
            InvalidSessionId: the id cannot be one of a session.
        """
        return Session(conversation_id, self._user_id, **self._options)

    # --- records ----------------------------------------------------------------------------------------

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """The record for a conversation, or None if there is no such session.

        Raises:
            SessionOwnerError: it belongs to another user, who has not shared it.
        """
        seen = await self._stored(conversation_id).read(-1)
        return self._record(conversation_id, seen) if seen.exists else None

    async def read_records(self, *, scope: str | None = None, limit: int | None = None) -> Sequence[ConversationRecord]:
        """The conversations of a user (`scope`), or of the tenant, newest first."""
        found: list[ConversationRecord] = []
        cursor: str | None = None
        while limit is None or len(found) < limit:
            page = await Session.alist(
                scope or self._user_id,
                limit=_PAGE if limit is None else min(limit - len(found), _PAGE) or 1,
                cursor=cursor,
                tenant=self._options.get("tenant"),
                settings=self._options.get("settings"),
            )
            for info in page:
                record = await self.read_record(info.session_id)
                if record is not None and scope in (None, record.scope):
                    found.append(record)
            cursor = page.cursor
            if cursor is None:
                break
        return sorted(found, key=lambda record: record.updated_at, reverse=True)[:limit]

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """Store a record and its new entries in one step.

        Raises:
            ConversationConflict: the conversation was changed or deleted since, or it exists already.
            SessionBusy: an open turn has seen messages that would leave the history.
            SessionOwnerError: the session belongs to another user, who has not shared it for writing.
        """
        conversation_id = record.conversation_id
        stored = self._stored(conversation_id, record.scope)
        line = await self._line_to(record, new_entries)
        sender = self._user_id

        def decide(seen: SeenHistory, may_extend: bool) -> HistoryChange:
            if (_revision(seen) if seen.exists else None) != expected_revision:
                raise ConversationConflict(conversation_id)
            if not seen.exists and sender is not None and record.scope not in (None, sender):
                raise BadRequest(
                    f"scope {record.scope!r}: this store is used by {sender!r}, who owns the conversations that it "
                    "makes; pass that scope or none, or open the store without user_id="
                )
            written_by = sender if seen.owner not in (None, sender) else None
            return self._change(record, line, seen, may_extend, written_by)

        # Only the last entry is needed, unless the history is rewritten.
        await stored.change(decide, start=-1 if line.appends else 0)
        self._remember(conversation_id, (entry.id for entry in line.entries))

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Delete the session with all its records.

        A save between the comparison of the revision and the deletion is deleted, too.

        Raises:
            ConversationConflict: the conversation was changed since, or there is none.
        """
        record = await self.read_record(conversation_id)
        if record is None or record.revision != expected_revision:
            raise ConversationConflict(conversation_id)
        await self.session(conversation_id).adelete()

    # --- entries ----------------------------------------------------------------------------------------

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """An entry of a conversation that was read or saved with this store object before.

        Raises:
            LookupError: it is not known here, or is gone.
        """
        return (await self._lines(self._home(entry_id))).entries[entry_id]

    async def read_history(self, head_id: str | None, *, limit: int | None = None) -> list[ConversationEntry]:
        """The entries up to `head_id`, or the last `limit` of them, of a conversation that this object has read before.

        Raises:
            LookupError: the entry is not known here, or is gone.
        """
        if head_id is None or limit == 0:
            return []
        conversation_id = self._home(head_id)
        if limit is not None and (tail := await self._tail(conversation_id, head_id, limit)) is not None:
            return tail
        line = (await self._lines(conversation_id)).to(head_id)
        kept = line if limit is None else line[-limit:]
        self._remember(conversation_id, (entry.id for entry in kept))
        return kept

    async def _tail(self, conversation_id: str, head_id: str, limit: int) -> list[ConversationEntry] | None:
        """The last entries, if the head is the last of the history; it need not be read whole then."""
        seen = await self._stored(conversation_id).read(-limit - 1)
        whole = len(seen.entries) == seen.length
        entries = list(_Lines.of(conversation_id, [seen.entries]).entries.values())
        if not whole:  # the parent of the first one may be unknown
            entries = entries[len(_ids(seen.entries[0])) :]
        if not entries or entries[-1].id != head_id or (len(entries) < limit and not whole):
            return None
        self._remember(conversation_id, (entry.id for entry in entries[-limit:]))
        return entries[-limit:]

    # --- parts ------------------------------------------------------------------------------------------

    def _stored(self, conversation_id: str, owner: str | None = None) -> LibrarySession:
        session = self.session(conversation_id)
        if session.user_id is None and owner is not None:
            session.user_id = owner
        return LibrarySession(session, ADAPTER)

    def _record(self, conversation_id: str, seen: SeenHistory) -> ConversationRecord:
        kept = seen.record or {}
        head = _ids(seen.last)[-1] if seen.last and _ids(seen.last) else None
        branches = kept.get("branches", [])
        self._remember(conversation_id, (*branches, *((head,) if head else ())))
        current = seen.recorded == seen.revision
        return ConversationRecord(
            conversation_id=conversation_id,
            head_id=head,
            usage=_USAGE.validate_python(kept.get("usage", {})),
            deferred_tool_requests=_DEFERRED.validate_python(kept.get("deferred")) if current else None,
            scope=seen.owner,
            forked_from=kept.get("forked_from"),
            forked_at=kept.get("forked_at"),
            branches=branches,
            revision=_revision(seen),
            updated_at=(
                datetime.fromisoformat(kept["updated_at"])
                if current and "updated_at" in kept
                else datetime.fromtimestamp(seen.used_ms / 1000, UTC)
            ),
        )

    async def _line_to(self, record: ConversationRecord, new_entries: Sequence[ConversationEntry]) -> _Line:
        """The history that the record is to have: what is stored up to the new entries, and those."""
        conversation_id = record.conversation_id
        first_parent = new_entries[0].parent_id if new_entries else record.head_id
        seen = await self._stored(conversation_id).read(-1)
        head = _ids(seen.last)[-1] if seen.last and _ids(seen.last) else None
        if first_parent == head:
            return _Line(tuple(new_entries), appends=True)
        source = conversation_id if seen.exists else record.forked_from
        try:
            before = (await self._lines(source)).to(first_parent) if source and first_parent else []
        except LookupError:
            raise ConversationConflict(conversation_id) from None
        if first_parent and not before:
            raise ConversationConflict(conversation_id)
        return _Line((*before, *new_entries), appends=False)

    def _change(
        self, record: ConversationRecord, line: _Line, seen: SeenHistory, may_extend: bool, sender: str | None
    ) -> HistoryChange:
        kept = _dump(record)
        last = seen.last
        if line.appends:
            groups = _groups(line.entries)
            if groups and last is not None and may_extend and not _begins(_json(groups[0])[0]):
                known = list(_Lines.of(record.conversation_id, [[last]]).entries.values())
                first = self._entry((*known, *groups[0]), sender, last)
                entries = [first, *(self._entry(group, sender) for group in groups[1:])]
                at = seen.length - 1
                return HistoryChange(seen.revision, entries, at, messages_cut=last.count, record=kept)
            entries = [self._entry(group, sender) for group in groups]
            return HistoryChange(seen.revision, entries, title=_title(entries), record=kept)
        at, position = 0, 0
        for entry in seen.entries:  # what both have from the beginning
            ids = _ids(entry)
            if ids != [each.id for each in line.entries[position : position + len(ids)]]:
                break
            at, position = at + 1, position + len(ids)
        leaving = seen.entries[at:]
        entries = [self._entry(group, sender) for group in _groups(line.entries[position:])]
        return HistoryChange(
            seen.revision,
            entries,
            at if leaving else None,
            leave="branch",
            replaced=leaving[0].turn if leaving else "",
            messages_cut=messages_in(leaving),
            title=_title(entries),
            record=kept,
        )

    def _entry(
        self, group: Sequence[ConversationEntry], sender: str | None, extends: HistoryEntry | None = None
    ) -> HistoryEntry:
        at = group[0].message.timestamp
        messages = [entry.message for entry in group]
        repaired = repair_messages(messages)  # a worker's model refuses calls without a result
        native: dict[str, Any] = {"ids": [entry.id for entry in group], "parent": group[0].parent_id}
        if repaired != messages:
            native["messages"] = _json(group)
        return HistoryEntry(
            turn=extends.turn if extends else new_turn_part(),
            agent=extends.agent if extends else self._agent,
            at_ms=extends.at_ms if extends else round((at or datetime.now(UTC)).timestamp() * 1000),
            count=count_messages(_json(group)),
            messages=_lean(repaired),
            sender=extends.sender if extends else sender,
            adapter=ADAPTER,
            native=json.dumps(native, ensure_ascii=False, separators=(",", ":")).encode(),
        )

    async def _lines(self, conversation_id: str) -> _Lines:
        """All entries of a conversation, with those that left its history."""
        return _Lines.of(conversation_id, await self._stored(conversation_id).lines())

    def _home(self, entry_id: str) -> str:
        try:
            return self._homes[entry_id]
        except KeyError:
            raise LookupError(
                f"entry {entry_id!r}: this store object has not read or saved its conversation; load it first"
            ) from None

    def _remember(self, conversation_id: str, entry_ids: Iterable[str]) -> None:
        for entry_id in entry_ids:
            self._homes[entry_id] = conversation_id
            self._homes.move_to_end(entry_id)
        while len(self._homes) > _KNOWN:
            self._homes.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Line:
    """Entries to write. `appends`: they follow the stored history; otherwise they are all of it."""

    entries: tuple[ConversationEntry, ...]
    appends: bool


@dataclass(frozen=True, slots=True)
class _Lines:
    """Entries of a conversation by id, those of the history in its order."""

    entries: dict[str, ConversationEntry]

    @classmethod
    def of(cls, conversation_id: str, lines: Iterable[Sequence[HistoryEntry]]) -> _Lines:
        """The entries of the history, and of branches after it, each line from its beginning."""
        entries: dict[str, ConversationEntry] = {}
        for line in lines:
            parent: str | None = None
            for stored in line:
                for entry in _entries(conversation_id, stored, parent):
                    entries.setdefault(entry.id, entry)
                    parent = entry.id
        return cls(entries)

    def to(self, head_id: str | None) -> list[ConversationEntry]:
        """The entries from the first one up to this one.

        Raises:
            LookupError: it is not there.
        """
        line: list[ConversationEntry] = []
        while head_id is not None:
            line.append(self.entries[head_id])
            head_id = line[-1].parent_id
        return line[::-1]


def _entries(conversation_id: str, stored: HistoryEntry, parent: str | None) -> list[ConversationEntry]:
    messages = ModelMessagesTypeAdapter.validate_json(stored.messages)
    if not stored.adapter:  # a worker leaves these ids out, for the entry has them
        for message in messages:
            if message.run_id is None and message.conversation_id is None:
                message.run_id, message.conversation_id = f"{conversation_id}~{stored.turn}", conversation_id
    if stored.adapter == ADAPTER:
        native = json.loads(stored.native)
        parent = native["parent"]
        if "messages" in native:
            messages = ModelMessagesTypeAdapter.validate_python(native["messages"])
    found = []
    for entry_id, message in zip(_ids(stored), messages, strict=True):
        found.append(ConversationEntry(id=entry_id, parent_id=parent, message=message))
        parent = entry_id
    return found


def _ids(stored: HistoryEntry) -> list[str]:
    """The ids of the messages of an entry. Those that a worker or another library wrote are numbered."""
    if stored.adapter == ADAPTER:
        ids: list[str] = json.loads(stored.native)["ids"]
        return ids
    return [f"{stored.turn}-{number}" for number in range(len(json.loads(stored.messages)))]


def _groups(entries: Sequence[ConversationEntry]) -> list[list[ConversationEntry]]:
    """Groups that begin with what the user said, after an answer. One group is one entry of the history."""
    groups: list[list[ConversationEntry]] = []
    for entry, message in zip(entries, _json(entries), strict=True):
        if not groups or (_begins(message) and groups[-1][-1].message.kind == "response"):
            groups.append([])
        groups[-1].append(entry)
    return groups


def _begins(message: Mapping[str, Any]) -> bool:
    """Whether a message begins an exchange. A prompt next to a tool's result does not: that belongs to its call."""
    returned = any(part["part_kind"] in ("tool-return", "retry-prompt") for part in message["parts"])
    return is_prompt(dict(message)) and not returned


def _json(entries: Sequence[ConversationEntry]) -> list[dict[str, Any]]:
    messages: Sequence[ModelMessage] = [entry.message for entry in entries]
    loaded: list[dict[str, Any]] = json.loads(ModelMessagesTypeAdapter.dump_json(list(messages)))
    return loaded


def _lean(messages: Sequence[ModelMessage]) -> bytes:
    dumped = ModelMessagesTypeAdapter.dump_python(list(messages), mode="json")
    return to_json(lean_messages(dumped))


def _title(entries: Sequence[HistoryEntry]) -> str:
    return first_prompt(json.loads(entries[0].messages)) if entries else ""


def _dump(record: ConversationRecord) -> Mapping[str, Any]:
    return {
        "revision": record.revision,
        "usage": _USAGE.dump_python(record.usage, mode="json"),
        "deferred": _DEFERRED.dump_python(record.deferred_tool_requests, mode="json"),
        "forked_from": record.forked_from,
        "forked_at": record.forked_at,
        "branches": record.branches,
        "updated_at": record.updated_at.isoformat(),
    }


def _revision(seen: SeenHistory) -> str:
    """The record's own revision while the history is as the record left it."""
    if seen.record is not None and seen.recorded == seen.revision:
        return str(seen.record["revision"])
    return f"history-{seen.revision}"
