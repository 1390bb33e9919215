"""State in the store: one hash for a session, a user or a tenant; fields hold JSON.

A field's prefix says whose it is: none the session's, `user:` the user's in all sessions, `app:` the tenant's.
All changes of one call to one of these are atomic; between two of them, which live in different slots, nothing is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import uuid_utils

from sessions.errors import BadRequest, CorruptRecord, InvalidState, SessionOwnerError, StateConflict
from sessions.state_ops import StateOp
from sessions.store.keys import SessionKeys, partition_key, partition_of
from sessions.store.scripts import ScriptRunner, store_error


@dataclass(frozen=True, slots=True)
class StateScope:
    """Whose state: the base of its keys, and its partition's."""

    kind: Literal["session", "wide"]
    base: str
    partition: str

    @property
    def key(self) -> str:
        """Hash: field -> JSON."""
        return f"{self.base}:state"


def session_scope(keys: SessionKeys) -> StateScope:
    """The state of one session."""
    return StateScope("session", keys.base, keys.partition)


def wide_scope(tenant: str, owner: str | None, partitions: int) -> StateScope:
    """The state of a user in all sessions, or (None) of the whole tenant.

    '~' cannot be part of a session id, so that no session's keys can meet these.
    """
    name = "~app" if owner is None else f"~user:{quote(owner, safe='')}"
    partition = partition_key(partition_of(tenant, name, partitions))
    return StateScope("wide", f"{partition}:{tenant}:{name}", partition)


class StateStore:
    """Reads and changes state."""

    def __init__(self, scripts: ScriptRunner, client: Any) -> None:
        self._scripts = scripts
        self._client = client

    async def read(self, scope: StateScope) -> dict[str, Any]:
        """All fields."""
        try:
            raw = await self._client.hgetall(scope.key)
        except Exception as error:
            raise store_error(error) from error
        return {field.decode(): _load(field, value) for field, value in raw.items()}

    async def get(self, scope: StateScope, field: str, default: Any) -> Any:
        """One field, or the default where there is none."""
        try:
            raw = await self._client.hget(scope.key, field)
        except Exception as error:
            raise store_error(error) from error
        return default if raw is None else _load(field.encode(), raw)

    async def write(
        self, scope: StateScope, ops: Sequence[StateOp], *, user_id: str | None = None, ttl: float | None = None
    ) -> list[Any]:
        """Change fields, all or none; returns each field's value afterwards.

        Raises:
            StateConflict: a swap found another value; InvalidState: an increment found no number.
            SessionOwnerError: the session belongs to another user.
        """
        args = [part for op in ops for part in (op.kind, op.field, op.a, op.b)]
        reply = await self._scripts.run(
            "write_state",
            (scope.base, scope.partition),
            uuid_utils.uuid4().hex,
            scope.kind,
            user_id or "",
            "" if ttl is None else int(ttl * 1000),
            *args,
        )
        match reply[0]:
            case b"ok":
                return [_load(op.field.encode(), v) if v else None for op, v in zip(ops, reply[1:], strict=True)]
            case b"mismatch":
                found = reply[2].decode() or "not set"
                raise StateConflict(f"state {reply[1].decode()!r} is {found}, not what was expected")
            case b"type":
                raise InvalidState(f"state {reply[1].decode()!r} is {reply[2].decode()}, no number to increment")
            case b"owner":
                raise SessionOwnerError(f"the session belongs to another user than {user_id!r}")
            case word:
                raise BadRequest(f"write_state answered {word!r}")


def _load(field: bytes, raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError as error:
        raise CorruptRecord(f"state {field.decode(errors='replace')!r} holds no JSON") from error
