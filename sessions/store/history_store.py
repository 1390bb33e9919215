"""Turns in the history and in branches, by position; and single turns that are looked up, replaced or deleted.

A branch is the history as it was before a turn took the place of others: the turns that stayed, and those that left it
for the list `left`. Its record says where: the first `at` turns of the history at that time, then `turns` entries of
`left` from `start` on. When the history is cut again, at a lower position, part of those first turns leaves it too, and
is found by the record of that later cut (`lua/lib/branches.lua` writes all of this).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import uuid_utils

from sessions.errors import CorruptRecord, SealError, SessionBusy, TurnNotFound
from sessions.protocol.access import refused
from sessions.store.history import HistoryEntry
from sessions.store.keys import SessionKeys
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.segments import Segments, stored_entries
from sessions.store.transitions.records import EntryList, Forgotten, Needed, Open, delete_turn
from sessions.store.transitions.segments import EntriesFound, read_entries
from sessions.store.transitions.shared import Moved, OtherOwner

_PAGE: Final = 50


@dataclass(frozen=True, slots=True)
class StoredBranch:
    """A branch of a session's history.

    Attributes:
        id: the turn that was replaced, the first one that left the history.
        replaced_by: the turn that took its place.
        at: how many turns are before it.
        turns, messages: how many left the history with it, without those that were deleted since.
        left_ms: when; milliseconds since the epoch.
    """

    id: str
    replaced_by: str
    at: int
    start: int
    turns: int
    messages: int
    left_ms: int

    @classmethod
    def load(cls, raw: bytes) -> StoredBranch:
        """A branch from its stored form."""
        stored = json.loads(raw)
        return cls(
            id=stored["id"],
            replaced_by=stored["by"],
            at=int(stored["at"]),
            start=int(stored["start"]),
            turns=int(stored["turns"]),
            messages=int(stored["messages"]),
            left_ms=int(stored["left_at"]),
        )


@dataclass(frozen=True, slots=True)
class Stretch:
    """Entries that follow one another in a list: `length` from `start` on."""

    key: str
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Found:
    """Where a turn's entry is, as of a version of the history; `entry` is None if it is nowhere."""

    list: EntryList
    at: int
    entry: HistoryEntry | None
    version: int
    length: int


class HistoryStore:
    """Reads the history and its branches, and deletes turns from them. Entries are decrypted here."""

    def __init__(self, scripts: ScriptRunner, keyring: KeyRing) -> None:
        self._scripts = scripts
        self._keyring = keyring
        self._segments = Segments(scripts, keyring)

    # --- read -------------------------------------------------------------------------------------------

    async def listed(self, keys: SessionKeys) -> list[StoredBranch]:
        """All branches, the oldest first."""
        try:
            return [StoredBranch.load(raw) for raw in await self._scripts.read("LRANGE", keys.branches, 0, -1)]
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptRecord(f"the branches of session {keys.session_id!r} cannot be read: {error!r}") from error

    async def length(self, keys: SessionKeys, branch: str | None) -> int:
        """The number of turns in the history, or in a branch of it.

        Raises:
            TurnNotFound: there is no such branch.
        """
        if branch is None:
            return (await self._found(keys, 1, 0)).length
        return sum(stretch.length for stretch in stretches(keys, await self.listed(keys), branch))

    async def entries(self, keys: SessionKeys, branch: str | None, start: int, stop: int) -> list[HistoryEntry]:
        """Turns of the history, or of a branch of it, by position: from `start` up to and including `stop`.

        Raises:
            TurnNotFound: there is no such branch. CorruptRecord: an entry cannot be read.
        """
        if branch is None:
            return self._loaded(keys, await self._stored(keys, keys.history, start, stop))
        while True:
            version = await self._version(keys)
            wanted = _between(stretches(keys, await self.listed(keys), branch), start, stop)
            pages = await asyncio.gather(*(self._stored(keys, s.key, s.start, s.start + s.length - 1) for s in wanted))
            if version == await self._version(keys):  # else the stretches may have moved between the reads
                return self._loaded(keys, [entry for page in pages for entry in page])

    async def path_to(self, keys: SessionKeys, part: str) -> list[HistoryEntry]:
        """A branch up to a turn that left the history; empty if none did that has this id."""
        for branch in await self.listed(keys):
            path = await self.entries(keys, branch.id, 0, branch.at + branch.turns - 1)
            position = next((i for i, entry in enumerate(path) if entry.turn == part), -1)
            if position >= branch.at:
                return path[: position + 1]
        return []

    async def _found(self, keys: SessionKeys, start: int, stop: int) -> EntriesFound:
        return await self._scripts.run(read_entries((keys.base,), start=start, stop=stop))

    async def _stored(self, keys: SessionKeys, key: str, start: int, stop: int) -> list[bytes]:
        """Entries by their place in a list. Of the history, some may be decrypted already, because a segment is."""
        if key != keys.history:
            return list(await self._scripts.read("LRANGE", key, start, stop))
        found = await self._found(keys, start, stop)
        try:
            return stored_entries(self._keyring, keys, found.segments, found.skip, found.count, found.entries)
        except ValueError as error:
            raise CorruptRecord(f"the history of session {keys.session_id!r} cannot be read: {error}") from error

    def _loaded(self, keys: SessionKeys, raw: Sequence[bytes]) -> list[HistoryEntry]:
        try:
            return [self._opened(keys, entry) for entry in raw]
        except (ValueError, KeyError) as error:
            raise CorruptRecord(f"the history of session {keys.session_id!r} cannot be read: {error!r}") from error

    def _opened(self, keys: SessionKeys, raw: bytes) -> HistoryEntry:
        """An entry is encrypted for its place in the history, and stays so when it leaves it."""
        return HistoryEntry.load(self._keyring.open(keys.history, "", raw))

    async def _version(self, keys: SessionKeys) -> int:
        return int(await self._scripts.read("HGET", keys.meta, "history_version") or 0)

    # --- look up ----------------------------------------------------------------------------------------

    async def find(self, keys: SessionKeys, part: str | None, *, in_branches: bool = False) -> Found:
        """Where a turn is in the history; None for the last turn of it.

        Args:
            in_branches: whether to look for it among the turns that left the history, too.
        """
        now, left = await asyncio.gather(self._found(keys, 1, 0), self._length(keys.left if in_branches else ""))
        version, length = now.version, now.length
        if (hit := await self._search(keys, length, part)) is not None:
            return Found("history", *hit, version, length)
        if part is not None and (hit := await self._scan(keys, keys.left, left, part)) is not None:
            return Found("left", *hit, version, length)
        return Found("", -1, None, version, length)

    async def entry(self, keys: SessionKeys, part: str, near: int) -> HistoryEntry | None:
        """A turn of the history, looked for first at the position where it was; None if the history does not have it.

        Raises:
            CorruptRecord, SealError: it cannot be read.
        """
        entry = await self._entry(keys, near)
        return entry if entry is not None and entry.turn == part else (await self.find(keys, part)).entry

    async def _length(self, key: str) -> int:
        return int(await self._scripts.read("LLEN", key)) if key else 0

    async def _search(self, keys: SessionKeys, length: int, part: str | None) -> tuple[int, HistoryEntry] | None:
        """A turn of the history. Ids sort by time, and almost all turns are committed in the order of acceptance."""
        low, high = 0, length
        at = length - 1  # the last turn is the one that is most often looked for
        while low < high:
            entry = await self._entry(keys, at)
            if entry is None:
                break
            if part in (None, entry.turn):
                return at, entry
            low, high = (at + 1, high) if entry.turn < part else (low, at)
            at = (low + high) // 2
        return None if part is None else await self._scan(keys, keys.history, length, part)

    async def _entry(self, keys: SessionKeys, at: int) -> HistoryEntry | None:
        raw = await self._stored(keys, keys.history, at, at)
        return self._loaded(keys, raw)[0] if raw else None

    async def _scan(self, keys: SessionKeys, key: str, length: int, part: str) -> tuple[int, HistoryEntry] | None:
        for stop in range(length, 0, -_PAGE):
            start = max(0, stop - _PAGE)
            page = self._loaded(keys, await self._stored(keys, key, start, stop - 1))
            for at, entry in enumerate(page, start):
                if entry.turn == part:
                    return at, entry
        return None

    async def messages_from(self, keys: SessionKeys, at: int) -> int:
        """How many messages the turns of the history have from a position on. Those that cannot be read count as 0."""
        count, length = 0, await self.length(keys, None)
        for start in range(at, length, _PAGE):
            with suppress(SealError, CorruptRecord):  # of a segment
                for raw in await self._stored(keys, keys.history, start, start + _PAGE - 1):
                    with suppress(SealError, ValueError, KeyError):
                        count += self._opened(keys, raw).count
        return count

    # --- delete -----------------------------------------------------------------------------------------

    async def delete(self, keys: SessionKeys, part: str, user_id: str | None) -> dict[str, int]:
        """Delete one turn with its entry, record, events and idempotency keys; returns how much there was.

        Raises:
            SessionBusy: it has not ended, or an open turn depends on it. SessionOwnerError.
        """
        operation = uuid_utils.uuid4().hex
        while True:
            found = await self.find(keys, part, in_branches=True)
            positions, segment = await self._segments.without(keys, found.at) if found.list == "history" else ("", b"")
            call = delete_turn(
                keys.pair,
                turn=part,
                user=user_id,
                operation=operation,
                list=found.list,
                at=found.at,
                messages=found.entry.count if found.entry else 0,
                version=found.version,
                length=found.length,
                positions=positions,
                segment=segment,
            )
            match await self._scripts.run(call):
                case Forgotten(keys=removed, messages=messages):
                    return {"keys": removed, "messages": messages}
                case Open(status=status):
                    turn = keys.public_id(part)
                    raise SessionBusy(f"turn {turn!r} is {status}: cancel it or wait for its end, then delete it")
                case Needed(by=by):
                    raise SessionBusy(
                        f"turn {keys.public_id(by)!r} is open and builds on turn {keys.public_id(part)!r}: cancel "
                        "it or wait for its end, then delete the turn"
                    )
                case OtherOwner():
                    raise refused(keys.session_id, user_id)
                case Moved():
                    continue


def stretches(keys: SessionKeys, branches: Sequence[StoredBranch], branch: str) -> list[Stretch]:
    """Where the turns of a branch are, in their order.

    Raises:
        TurnNotFound: there is no such branch.
    """
    number = next((i for i, each in enumerate(branches) if each.id == branch), None)
    if number is None:
        raise TurnNotFound(
            f"session {keys.session_id!r} has no branch {keys.public_id(branch)!r}; `branches()` lists those it has"
        )
    own = branches[number]
    found, end = [Stretch(keys.left, own.start, own.turns)], own.at
    for later in branches[number + 1 :]:
        if later.at < end:
            found.append(Stretch(keys.left, later.start, end - later.at))
            end = later.at
    found.append(Stretch(keys.history, 0, end))
    return found[::-1]


def _between(all_stretches: Sequence[Stretch], start: int, stop: int) -> list[Stretch]:
    """The part of these from position `start` up to and including `stop`."""
    found, before = list[Stretch](), 0
    for each in all_stretches:
        low, high = max(start - before, 0), min(stop + 1 - before, each.length)
        if low < high:
            found.append(Stretch(each.key, each.start + low, high - low))
        before += each.length
    return found
