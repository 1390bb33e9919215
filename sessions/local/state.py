"""What the methods of `StateMethods` do, as coroutines for the portal's loop."""

from __future__ import annotations

from typing import Any, Protocol

from sessions.client.fleet_client import FleetClient
from sessions.errors import BadRequest, InvalidState
from sessions.protocol.state_ops import APP, TEMP, USER, StateOp, check_field
from sessions.store.keys import SessionKeys
from sessions.store.state import StateScope, session_scope, wide_scope


class Stateful(Protocol):
    """What of a session its state needs."""

    user_id: str | None
    ttl: float | None
    keys: SessionKeys

    @property
    def client(self) -> FleetClient:
        """The client of this process."""
        ...


async def get(session: Stateful, key: str | None, default: Any) -> Any:
    """One value, or all; see `StateMethods.aget_state`."""
    await session.client.open()
    if session.user_id is not None:
        await session.client.check_owner(session.keys, session.user_id)
    if key is None:
        return await session.client.state.read(session_scope(session.keys))
    return await session.client.state.get(await _scope(session, check_field(key)), key, default)


async def write(session: Stateful, ops: list[StateOp]) -> list[Any]:
    """Carry out changes, all or none; what each left behind."""
    if not ops:
        return []
    await session.client.open()
    scopes = {await _scope(session, op.field) for op in ops}
    if len(scopes) > 1:
        fields = [op.field for op in ops]
        raise InvalidState(
            f"state keys {fields!r} are of several scopes, which cannot change in one step; set them apart"
        )
    return await session.client.state.write(scopes.pop(), ops, user_id=session.user_id, ttl=session.ttl)


async def _scope(session: Stateful, key: str) -> StateScope:
    if key.startswith(TEMP):
        raise InvalidState(f"state key {key!r}: `temp:` lives within one turn, where tools see it in their context")
    client = session.client
    tenant, partitions = session.keys.tenant, client.settings.partitions
    if key.startswith(APP):
        return wide_scope(tenant, None, partitions)
    if not key.startswith(USER):
        return session_scope(session.keys)
    user_id = session.user_id or await client.owner(session.keys)
    if user_id is None:
        raise BadRequest(
            f"state {key!r} belongs to a user, and session {session.keys.session_id!r} has none: give user_id="
        )
    return wide_scope(tenant, user_id, partitions)
