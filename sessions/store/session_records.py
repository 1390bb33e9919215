"""What a session has in addition to turns and their history: its owner and checkpoints, and how to copy it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import uuid_utils

from sessions.errors import (
    CorruptRecord,
    NotFound,
    SessionExists,
    SessionExpired,
    StateConflict,
    StateNotFoundError,
)
from sessions.protocol.access import refused
from sessions.protocol.compaction_requests import Compact
from sessions.protocol.text import AUTO_TITLE
from sessions.store.checkpoint import Checkpoint
from sessions.store.keys import SessionKeys
from sessions.store.scripts import ScriptRunner, translated
from sessions.store.sealing import KeyRing
from sessions.store.segments import stored_entries
from sessions.store.session_info import (
    FIELDS,
    METADATA,
    TITLE,
    MetadataValue,
    SessionInfo,
    merged_metadata,
    open_metadata,
    seal_metadata,
    searchable_argument,
)
from sessions.store.summaries import SummaryStore
from sessions.store.transitions import records as transitions
from sessions.store.transitions.shared import Missing, OtherOwner

KEPT_CHECKPOINTS: Final = 100
_COPY_PAGE: Final = 200
_ALL: Final = 1 << 60
_TRIES: Final = 20
COPY_SECONDS: Final = 3600
_BROUGHT: Final = ("history", "memory", "memory:vectors", "memory:texts", "files", "checkpoints")


@dataclass(frozen=True, slots=True)
class Lifetime:
    """When a session expires.

    Attributes:
        left: seconds until it does; None for never, and while a turn is open.
        expired: whether there was a session of this id whose ttl ran out.
    """

    left: float | None
    expired: bool


class SessionRecords:
    """Reads and writes what a session has in addition to turns."""

    def __init__(self, scripts: ScriptRunner, client: Any, keyring: KeyRing) -> None:
        self._scripts = scripts
        self._client = client
        self._keyring = keyring

    async def info(self, keys: SessionKeys) -> SessionInfo | None:
        """The session and its counts; None if it does not exist."""
        return SessionInfo.read(keys, self._keyring, await self._scripts.read("HMGET", keys.meta, *FIELDS))

    async def agents(self, keys: SessionKeys) -> list[str]:
        """The names of the agents that it knows."""
        return sorted(name.decode() for name in await self._scripts.read("HKEYS", keys.agents))

    async def lifetime(self, keys: SessionKeys) -> Lifetime:
        """When it expires."""
        exists, left, expired = await asyncio.gather(
            self._scripts.read("HEXISTS", keys.meta, "created"),
            self._scripts.read("PTTL", keys.meta),
            self._scripts.read("GET", f"{keys.base}:expired"),
        )
        return Lifetime(left / 1000 if left >= 0 else None, not exists and expired is not None)

    async def update(
        self,
        keys: SessionKeys,
        user_id: str | None,
        title: str | None,
        changes: Mapping[str, MetadataValue | None],
        *,
        by_model: bool = False,
        about: str | None = None,
        searchable: bool | None = None,
        compact: Compact | None = None,
    ) -> None:
        """Change the title (None leaves it, `auto` has a model write it) and merge metadata; None removes a name.

        Args:
            by_model: a model wrote the title: nothing is changed if nobody waits for that any more.
            about: the turn that a model's title is about, and is deleted with.
            searchable: whether its transcript is searchable; None leaves it as it is.
            compact: whether it is compacted; None leaves it as it is.

        Raises:
            NotFound, SessionExpired: there is no such session. SessionOwnerError: it belongs to another user.
            BadRequest: the metadata would be too large. StateConflict: others change them all the time.
        """
        operation = uuid_utils.uuid4().hex
        for _ in range(_TRIES):
            stored = await self._scripts.read("HGET", keys.meta, METADATA) if changes else None
            merged = merged_metadata(open_metadata(keys, self._keyring, stored or b""), changes)
            call = transitions.update_session(
                keys.pair,
                user=user_id,
                title=self._sealed_title(keys, title),
                by_model=by_model,
                about=about,
                auto=title == AUTO_TITLE,
                expected=stored or b"",
                metadata=seal_metadata(keys, self._keyring, merged) if changes else b"",
                searchable=searchable_argument(searchable),
                compact=compact or "",
                operation=operation,
            )
            match await self._scripts.run(call):
                case transitions.Updated():
                    return
                case OtherOwner():
                    raise refused(keys.session_id, user_id)
                case Missing():
                    raise await self.missing(keys)
        raise StateConflict(f"the metadata of session {keys.session_id!r} change all the time; try again")

    async def fork_fields(self, keys: SessionKeys, target: SessionKeys, turns: Sequence[str]) -> dict[str, str | bytes]:
        """Fields of the session's record that a fork with these turns has too.

        The turn whose message the title comes from; where the window begins, so that the fork's first request begins
        like this session's last one; and the summary of what is before it.
        """
        title_of, window_at = await self._scripts.read("HMGET", keys.meta, "title_of", "window_at")
        fields: dict[str, str | bytes] = {} if title_of is None else {"title_of": title_of}
        if window_at is None or int(window_at) >= len(turns):
            return fields
        summary = await SummaryStore(self._scripts, self._keyring).for_fork(keys, target, turns)
        return {**fields, "window_at": window_at, **summary}

    def _sealed_title(self, keys: SessionKeys, title: str | None) -> bytes:
        """The bytes to store; empty if there is no title yet."""
        return self._keyring.seal(keys.meta, TITLE, title.encode()) if title and title != AUTO_TITLE else b""

    async def missing(self, keys: SessionKeys) -> NotFound | SessionExpired:
        """The error for a session that does not exist."""
        if (await self.lifetime(keys)).expired:
            return SessionExpired(f"session {keys.session_id!r} expired; using it again starts a new one")
        return NotFound(
            f"there is no session {keys.session_id!r}; its first turn creates it, or create() (POST /v1/sessions)"
        )

    # --- checkpoints ------------------------------------------------------------------------------------

    async def save_checkpoint(
        self, keys: SessionKeys, merge: Mapping[str, str], user_id: str | None, ttl: float | None
    ) -> int:
        """Write a numbered checkpoint, after merging values (JSON) into the state; returns its number."""
        call = transitions.save_checkpoint(
            keys.pair,
            operation=uuid_utils.uuid4().hex,
            user=user_id,
            kept=KEPT_CHECKPOINTS,
            session_ttl_ms=None if ttl is None else int(ttl * 1000),
            merge={field: self._keyring.seal(keys.state, field, value.encode()) for field, value in merge.items()},
        )
        reply = await self._scripts.run(call)
        if isinstance(reply, OtherOwner):
            raise refused(keys.session_id, user_id)
        return reply.number

    async def checkpoint(self, keys: SessionKeys, number: int | None = None) -> Checkpoint:
        """The newest checkpoint, or the one with this number; reads nothing else.

        Raises:
            StateNotFoundError, SessionExpired: there is none. CorruptRecord: it cannot be read.
        """
        with translated():
            wanted = number if number is not None else await self._client.hget(keys.meta, "checkpoint")
            raw = await self._client.hget(f"{keys.base}:checkpoints", wanted) if wanted is not None else None
        if raw is None:
            await self._nothing_to_restore(keys, number)
        return Checkpoint.load(raw, self._keyring, keys)

    async def restore_checkpoint(self, keys: SessionKeys, number: int, user_id: str | None) -> Checkpoint:
        """Rewind the state to a checkpoint.

        Raises:
            As `checkpoint`; SessionOwnerError.
        """
        call = transitions.restore_checkpoint(keys.pair, number=number, user=user_id, operation=uuid_utils.uuid4().hex)
        reply = await self._scripts.run(call)
        if isinstance(reply, OtherOwner):
            raise refused(keys.session_id, user_id)
        if isinstance(reply, Missing):
            await self._nothing_to_restore(keys, number)
        return Checkpoint.load(reply.checkpoint, self._keyring, keys)

    async def checkpoints(self, keys: SessionKeys) -> list[int]:
        """The numbers of the existing checkpoints, oldest first."""
        with translated():
            return sorted(int(number) for number in await self._client.hkeys(f"{keys.base}:checkpoints"))

    async def _nothing_to_restore(self, keys: SessionKeys, number: int | None) -> NoReturn:
        if (await self.lifetime(keys)).expired:
            raise SessionExpired(f"session {keys.session_id!r} expired: {SessionExpired.__doc__}")
        what = "no checkpoint" if number is None else f"no checkpoint {number}"
        raise StateNotFoundError(
            f"session {keys.session_id!r} has {what} to restore; `save_state()` writes one "
            f"(there are {await self.checkpoints(keys) or 'none'})"
        )

    # --- copies -----------------------------------------------------------------------------------------

    async def create(
        self,
        keys: SessionKeys,
        entries: Sequence[bytes],
        *,
        user_id: str | None,
        queue: str,
        ttl: float | None,
        messages: int,
        state: Mapping[str, bytes],
        agents: Mapping[str, bytes],
        origin: str,
        title: str = "",
        metadata: Mapping[str, MetadataValue] | None = None,
        hidden: bool = False,
        searchable: bool | None = None,
        compact: Compact | None = None,
        copy: str | None = None,
        stored: int = 0,
        counts: Mapping[str, str | bytes] | None = None,
    ) -> None:
        """Create a session from copied records, in one step; half a copy is never visible.

        Args:
            hidden: no list shows the session, because it is made for one task.
            searchable: whether its transcript is searchable; None if nobody has decided.
            compact: whether it is compacted; None if nobody has decided.
            copy: identifies the copy: what was stored under this name becomes the session's too.
            stored: history entries that `store_history` has stored under this name already.
            counts: further fields of the session's record.

        Raises:
            SessionExists: the id exists already.
        """
        copy = copy or uuid_utils.uuid4().hex
        await self.store_history(keys, copy, entries)
        call = transitions.create_session(
            keys.pair,
            copy=copy,
            user=user_id,
            queue=queue,
            session_ttl_ms=None if ttl is None else int(ttl * 1000),
            messages=messages,
            turns=stored + len(entries),
            origin=origin,
            title=self._sealed_title(keys, title),
            auto_title=title == AUTO_TITLE,
            metadata=seal_metadata(keys, self._keyring, metadata or {}),
            hidden=hidden,
            searchable=searchable_argument(searchable),
            compact=compact or "",
            counts=counts or {},
            state={name: self._keyring.seal(keys.state, name, value) for name, value in state.items()},
            agents={name: self._keyring.seal(keys.agents, name, value) for name, value in agents.items()},
        )
        if isinstance(await self._scripts.run(call), transitions.Exists):
            await self.discard_copy(keys, copy)
            raise SessionExists(f"session {keys.session_id!r}: {SessionExists.__doc__}")

    async def store_history(self, keys: SessionKeys, copy: str, entries: Sequence[bytes]) -> None:
        """Store history entries for a session that `create` is about to create from this copy."""
        history = f"{keys.history}:copy:{copy}"
        with translated():
            for start in range(0, len(entries), _COPY_PAGE):
                page = [self._keyring.seal(keys.history, "", entry) for entry in entries[start : start + _COPY_PAGE]]
                await self._client.rpush(history, *page)
                await self._client.expire(history, COPY_SECONDS)

    async def store_checkpoints(self, keys: SessionKeys, copy: str, checkpoints: Sequence[Checkpoint]) -> None:
        """Store checkpoints for a session that `create` is about to create from this copy."""
        with translated():
            for checkpoint in checkpoints:
                raw = checkpoint.dump(self._keyring, keys)
                await self._client.hset(f"{keys.base}:checkpoints:copy:{copy}", checkpoint.number, raw)
            await self._client.expire(f"{keys.base}:checkpoints:copy:{copy}", COPY_SECONDS)

    async def discard_copy(self, keys: SessionKeys, copy: str, files: Sequence[str] = ()) -> None:
        """Remove what was stored for a session that is not created."""
        with translated():
            await self._client.unlink(
                *(f"{keys.base}:{part}:copy:{copy}" for part in _BROUGHT),
                *(f"{keys.file(file_id)}:copy:{copy}" for file_id in files),
            )

    async def origin(self, keys: SessionKeys) -> str | None:
        """What the session was copied or imported from; None if it was not, or does not exist."""
        with translated():
            found = await self._client.hget(keys.meta, "forked_from")
        return None if found is None else found.decode()

    async def agent_configs(self, keys: SessionKeys) -> dict[str, Any]:
        """The agents that the session knows: name -> configuration.

        Raises:
            CorruptRecord: one of them cannot be read.
        """
        with translated():
            found = await self._client.hgetall(keys.agents)
        try:
            return {
                raw.decode(): json.loads(self._keyring.open(keys.agents, raw.decode(), value))
                for raw, value in found.items()
            }
        except ValueError as error:
            raise CorruptRecord(f"the agents of session {keys.session_id!r} cannot be read: {error!r}") from error

    async def raw_parts(self, keys: SessionKeys) -> tuple[list[bytes], dict[str, bytes], dict[str, bytes]]:
        """History entries, state and agents, read in one step and decrypted: a copy is encrypted for another place."""
        found = await self._scripts.run(transitions.read_session((keys.base,)))
        history = stored_entries(self._keyring, keys, found.segments, 0, _ALL, found.history)
        return (
            [self._keyring.open(keys.history, "", entry) for entry in history],
            {name: self._keyring.open(keys.state, name, value) for name, value in found.state.items()},
            {name: self._keyring.open(keys.agents, name, value) for name, value in found.agents.items()},
        )
