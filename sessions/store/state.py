"""State in the store: one hash for a session, a user or a tenant; fields hold JSON.

A field's prefix says whose it is: none the session's, `user:` the user's in all sessions, `app:` the tenant's.
All changes of one call to one of these are atomic; between two of them, which live in different slots, nothing is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import uuid_utils

from sessions.errors import BadRequest, CorruptRecord, InvalidState, SessionOwnerError, StateConflict
from sessions.state_ops import StateOp
from sessions.store.keys import WIDE_APP, SessionKeys, wide_name
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
    """The state of a user in all sessions, or (None) of the whole tenant."""
    keys = SessionKeys.wide(tenant, WIDE_APP if owner is None else wide_name("user", owner), partitions)
    return StateScope("wide", keys.base, keys.partition)


_REMEMBERED_MS: Final = 60_000
_EFFECT_REMEMBERED_MS: Final = 30 * 86_400_000


@dataclass(frozen=True, slots=True)
class Effect:
    """A committed turn's changes to a user's or tenant's state, on their way into that slot.

    Its id is remembered there far longer than the way can take, so that applying it twice changes nothing.
    """

    id: str
    scope: StateScope
    ops: Sequence[StateOp]

    def dump(self) -> str:
        """The entry as it stands in the session's outbox."""
        ops = [part for op in self.ops for part in (op.kind, op.field, op.a, op.b)]
        return json.dumps({"id": self.id, "base": self.scope.base, "partition": self.scope.partition, "ops": ops})


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
            _REMEMBERED_MS,
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
            case b"range":
                raise InvalidState(f"state {reply[1].decode()!r} would become larger than a number can be")
            case b"owner":
                raise SessionOwnerError(f"the session belongs to another user than {user_id!r}")
            case word:
                raise BadRequest(f"write_state answered {word!r}")


async def apply_effect(scripts: ScriptRunner, keys: SessionKeys, entry: bytes) -> None:
    """Apply an outbox entry in its own slot, then take it out of the outbox. Both may be repeated.

    An operation that cannot be done (somebody put a text where a number was) drops the entry: it is not due to us.
    """
    effect = json.loads(entry)
    await scripts.run(
        "write_state", (effect["base"], effect["partition"]), effect["id"], "wide", "", "", _EFFECT_REMEMBERED_MS,
        *effect["ops"],
    )  # fmt: skip
    await ack_effect(scripts, keys, entry)


async def ack_effect(scripts: ScriptRunner, keys: SessionKeys, entry: bytes) -> None:
    """Take an entry that was applied out of the outbox."""
    await scripts.run("ack_outbox", keys.pair, entry)


def _load(field: bytes, raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError as error:
        raise CorruptRecord(f"state {field.decode(errors='replace')!r} holds no JSON") from error
