"""State in the fleet's store, of sessions, users and tenants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sessions.client.fleet_client import FleetClient
from sessions.client.ports import SessionRef
from sessions.errors import BadRequest, InvalidState
from sessions.protocol.state_ops import APP, TEMP, USER, StateOp, check_field
from sessions.store.state import StateScope, session_scope, wide_scope


class LocalState:
    """`StateCalls` over the fleet's store."""

    def __init__(self, fleet: Callable[[], FleetClient]) -> None:
        self._fleet = fleet

    async def get(self, session: SessionRef, key: str | None, default: Any) -> Any:
        """One value, or all; see `StateMethods.aget_state`."""
        fleet = self._fleet()
        await fleet.open()
        if session.user_id is not None:
            await fleet.ownership.check(session.keys, session.user_id)
        if key is None:
            return await fleet.stores.state.read(session_scope(session.keys))
        return await fleet.stores.state.get(await _scope(fleet, session, check_field(key)), key, default)

    async def write(self, session: SessionRef, ops: list[StateOp]) -> list[Any]:
        """Make changes, all or none; returns the new values."""
        if not ops:
            return []
        fleet = self._fleet()
        await fleet.open()
        scopes = {await _scope(fleet, session, op.field) for op in ops}
        if len(scopes) > 1:
            fields = [op.field for op in ops]
            raise InvalidState(
                f"state keys {fields!r} have different scopes, which cannot change in one step; set them separately"
            )
        return await fleet.stores.state.write(scopes.pop(), ops, user_id=session.user_id, ttl=session.ttl)


async def _scope(fleet: FleetClient, session: SessionRef, key: str) -> StateScope:
    if key.startswith(TEMP):
        raise InvalidState(f"state key {key!r}: `temp:` state only exists within a turn, in the context of its tools")
    tenant, partitions = session.keys.tenant, fleet.settings.partitions
    if key.startswith(APP):
        return wide_scope(tenant, None, partitions)
    if not key.startswith(USER):
        return session_scope(session.keys)
    user_id = session.user_id or await fleet.ownership.owner(session.keys)
    if user_id is None:
        raise BadRequest(
            f"state {key!r} belongs to a user, and session {session.keys.session_id!r} has none: pass user_id="
        )
    return wide_scope(tenant, user_id, partitions)
