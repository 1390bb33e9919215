"""State in the store: one hash per session, user or tenant; fields contain JSON.

A field's prefix says whose it is: none the session's, `user:` the user's in all sessions, `app:` the tenant's. All
changes that one call makes to one of these are atomic; nothing is atomic across two of them, which are in different
slots.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

import uuid_utils

from sessions.errors import (
    CorruptRecord,
    InvalidState,
    StateConflict,
    StoreUnavailable,
)
from sessions.protocol.access import grants, refused
from sessions.protocol.state_ops import StateOp
from sessions.store.keys import WIDE_APP, SessionKeys, wide_name
from sessions.store.scripts import ScriptRunner, store_error
from sessions.store.sealed_state import Refused, decide, looked_at
from sessions.store.sealing import KeyRing
from sessions.store.transitions import records as transitions
from sessions.store.transitions.leases import ack_outbox
from sessions.store.transitions.shared import Change, OtherOwner, Refusal


@dataclass(frozen=True, slots=True)
class StateScope:
    """Whose state it is: the base of its keys, and of its partition."""

    kind: transitions.Scope
    base: str
    partition: str

    @property
    def session_id(self) -> str:
        """Of a session's state, the session's id."""
        return unquote(self.base.rpartition(":")[2])

    @property
    def key(self) -> str:
        """Hash: field -> JSON."""
        return f"{self.base}:state"


def session_scope(keys: SessionKeys) -> StateScope:
    """The state of one session."""
    return StateScope("session", keys.base, keys.partition)


def wide_scope(tenant: str, owner: str | None, partitions: int) -> StateScope:
    """The state of a user in all sessions, or (None) of the whole tenant."""
    keys = SessionKeys.wide(tenant, WIDE_APP if owner is None else wide_name("user", owner), partitions)
    return StateScope("wide", keys.base, keys.partition)


_TRIES: Final = 100
_PAUSES: Final = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.05)
_REMEMBERED_MS: Final = 60_000
_EFFECT_REMEMBERED_MS: Final = 30 * 86_400_000


@dataclass(frozen=True, slots=True)
class Effect:
    """A committed turn's changes to a user's or tenant's state, before they are applied in that slot.

    Its id is remembered there for far longer than that can take, so that applying it twice changes nothing.
    """

    id: str
    scope: StateScope
    ops: Sequence[StateOp]

    def dump(self) -> str:
        """The entry as it is in the session's outbox."""
        ops = [part for change in as_changes(self.ops) for part in change]
        return json.dumps({"id": self.id, "base": self.scope.base, "partition": self.scope.partition, "ops": ops})


@dataclass(frozen=True, slots=True)
class _Operation:
    """A write of state. Its id is remembered for a while, so that a retry after a lost reply changes nothing."""

    id: str
    remembered_ms: int
    user: str | None = None
    session_ttl_ms: int | None = None


class StateStore:
    """Reads and changes state."""

    def __init__(self, scripts: ScriptRunner, client: Any, keyring: KeyRing) -> None:
        self._scripts = scripts
        self._client = client
        self._keyring = keyring

    async def read(self, scope: StateScope) -> dict[str, Any]:
        """All fields."""
        try:
            raw = await self._client.hgetall(scope.key)
        except Exception as error:
            raise store_error(error) from error
        return self.opened(scope, {field.decode(): value for field, value in raw.items()})

    def opened(self, scope: StateScope, stored: Mapping[str, bytes]) -> dict[str, Any]:
        """The values of fields in their stored form.

        Raises:
            CorruptRecord: one is not JSON. SealError: one cannot be decrypted.
        """
        return {field: self._load(scope, field, value) for field, value in stored.items()}

    async def get(self, scope: StateScope, field: str, default: Any) -> Any:
        """One field, or the default if it is not set."""
        try:
            raw = await self._client.hget(scope.key, field)
        except Exception as error:
            raise store_error(error) from error
        return default if raw is None else self._load(scope, field, raw)

    async def write(
        self, scope: StateScope, ops: Sequence[StateOp], *, user_id: str | None = None, ttl: float | None = None
    ) -> list[Any]:
        """Change fields, all or none; returns each field's value afterwards.

        Raises:
            StateConflict: a swap found another value, or other writers kept changing encrypted state.
            InvalidState: an increment found no number. SessionOwnerError: the session belongs to another user.
        """
        ttl_ms = None if ttl is None else int(ttl * 1000)
        operation = _Operation(uuid_utils.uuid4().hex, _REMEMBERED_MS, user_id, ttl_ms)
        if self._keyring.ids:
            return await self._write_encrypted(scope, ops, operation)
        reply = await self._run(scope, operation, as_changes(ops))
        if isinstance(reply, transitions.Ok):
            pairs = zip(ops, reply.values, strict=True)
            return [self._load(scope, op.field, value) if value else None for op, value in pairs]
        if isinstance(reply, OtherOwner):
            raise refused(scope.session_id, user_id)
        # Raises for a client that lacks the keys.
        found = self._keyring.open(scope.key, reply.field, reply.value).decode()
        raise _refusal(reply.why, reply.field, found or None)

    async def apply(self, effect: Mapping[str, Any]) -> None:
        """Apply an effect from an outbox; applying it twice changes nothing.

        An effect with an impossible operation (a field has a text instead of a number) is dropped, because its turn is
        already committed.
        """
        scope, flat = StateScope("wide", effect["base"], effect["partition"]), effect["ops"]
        ops = [StateOp(*flat[i : i + 4]) for i in range(0, len(flat), 4)]
        operation = _Operation(effect["id"], _EFFECT_REMEMBERED_MS)
        if not self._keyring.ids:
            await self._run(scope, operation, as_changes(ops))
            return
        try:
            await self._write_encrypted(scope, ops, operation)
        except InvalidState:
            return
        except StateConflict as error:
            raise StoreUnavailable(f"an effect is waiting and will be retried: {error}") from error

    async def _write_encrypted(self, scope: StateScope, ops: Sequence[StateOp], operation: _Operation) -> list[Any]:
        for tried in range(_TRIES):
            stored = await self._stored(scope, looked_at(ops), operation.user)
            try:
                decided = decide(self._keyring, scope.key, ops, stored)
            except Refused as found:
                raise _refusal(found.why, found.field, found.value) from None
            reply = await self._run(scope, operation, decided.changes)
            if isinstance(reply, transitions.Ok):
                pairs = zip(ops, decided.values, strict=True)
                return [None if value is None else _parsed(op.field, value) for op, value in pairs]
            if isinstance(reply, OtherOwner):
                raise refused(scope.session_id, operation.user)
            await pause_between(tried)  # another writer was faster
        fields = ", ".join(repr(field) for field in looked_at(ops))
        raise StateConflict(f"state {fields} was changed by other writers during all {_TRIES} tries; try again")

    async def _stored(self, scope: StateScope, fields: Sequence[str], user: str | None) -> dict[str, bytes | None]:
        """The values of these fields. The owner is checked first, because a refusal may quote a value.

        Raises:
            SessionOwnerError: it is another user's.
        """
        if not fields:
            return {}
        if scope.kind == "session" and user:
            owner = await self._scripts.read("HGET", f"{scope.base}:meta", "owner")
            if owner not in (None, user.encode()):
                rights = await self._scripts.read("HGET", f"{scope.base}:shares", user)
                if not grants(rights and rights.decode(), "write"):
                    raise refused(scope.session_id, user)
        return dict(zip(fields, await self._scripts.read("HMGET", scope.key, *fields), strict=True))

    async def _run(
        self, scope: StateScope, operation: _Operation, changes: Iterable[Change]
    ) -> transitions.WriteStateReply:
        call = transitions.write_state(
            (scope.base, scope.partition),
            operation=operation.id,
            scope=scope.kind,
            user=operation.user,
            session_ttl_ms=operation.session_ttl_ms,
            remembered_ms=operation.remembered_ms,
            changes=changes,
        )
        return await self._scripts.run(call)

    def _load(self, scope: StateScope, field: str, raw: bytes) -> Any:
        return _parsed(field, self._keyring.open(scope.key, field, raw))


async def pause_between(tried: int) -> None:
    """Wait before deciding again after another writer was faster: longer after each try, and with jitter."""
    await asyncio.sleep(random.uniform(0, _PAUSES[min(tried, len(_PAUSES) - 1)]))  # noqa: S311 - no secret


async def ack_effect(scripts: ScriptRunner, keys: SessionKeys, entry: bytes) -> None:
    """Remove an entry from the outbox after it was applied."""
    await scripts.run(ack_outbox(keys.pair, entry=entry))


def _parsed(field: str, raw: bytes | str) -> Any:
    try:
        return json.loads(raw)
    except ValueError as error:
        raise CorruptRecord(f"state {field!r} is not JSON") from error


def as_changes(ops: Iterable[StateOp]) -> list[Change]:
    """Operations in the form that scripts take, without encryption."""
    return [(op.kind, op.field, op.a, op.b) for op in ops]


def _refusal(why: Refusal, field: str, value: str | None) -> Exception:
    match why:
        case "mismatch":
            return StateConflict(f"state {field!r} is {value or 'not set'}, not what was expected")
        case "type":
            return InvalidState(f"state {field!r} is {value}, not a number")
        case "range":
            return InvalidState(f"state {field!r} would become too large for a number")
