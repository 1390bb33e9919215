"""A session's state: small JSON values beside the conversation, shared by its agents, tools and every process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from sessions.client import FleetClient
from sessions.errors import BadRequest, InvalidState
from sessions.state_ops import APP, TEMP, USER, StateOp, check_field, delete_op, increment_op, set_op, swap_op
from sessions.store.keys import SessionKeys
from sessions.store.state import StateScope, session_scope, wide_scope


class _Stateful(Protocol):
    """What of a session the state needs."""

    user_id: str | None
    ttl: float | None
    keys: SessionKeys

    @property
    def client(self) -> FleetClient: ...


class StateMethods:
    """The state methods of `Session`, each with its async twin.

    A key's prefix says whose value it is: none this session's, `user:` the user's in all sessions, `app:` the
    tenant's. Each call is atomic within one of these.
    """

    # --- read -------------------------------------------------------------------------------------------

    async def aget_state(self: _Stateful, key: str | None = None, default: Any = None) -> Any:
        """One value, or `default` where there is none; without a key, all of this session's as a dict."""
        return await self.client.portal.acall(_get(self, key, default))

    def get_state(self: _Stateful, key: str | None = None, default: Any = None) -> Any:
        """One value, or all; see `aget_state`."""
        return self.client.portal.call(_get(self, key, default))

    # --- change -----------------------------------------------------------------------------------------

    async def aset_state(self: _Stateful, key: str, value: Any) -> None:
        """Set one value.

        Raises:
            InvalidState: the key is no text, or the value no JSON.
            SessionOwnerError: the session belongs to another user.
        """
        await self.client.portal.acall(_write(self, [set_op(key, value)]))

    def set_state(self: _Stateful, key: str, value: Any) -> None:
        """Set one value; see `aset_state`."""
        self.client.portal.call(_write(self, [set_op(key, value)]))

    async def aupdate_state(self: _Stateful, values: Mapping[str, Any]) -> None:
        """Set several values, all or none; they must be of one scope."""
        await self.client.portal.acall(_write(self, [set_op(k, v) for k, v in values.items()]))

    def update_state(self: _Stateful, values: Mapping[str, Any]) -> None:
        """Set several values; see `aupdate_state`."""
        self.client.portal.call(_write(self, [set_op(k, v) for k, v in values.items()]))

    async def aincrement_state(self: _Stateful, key: str, amount: float = 1, default: float = 0) -> Any:
        """Add to a number, atomically, and return the new one. A missing one counts as `default`.

        Raises:
            InvalidState: the value, the amount or the default is no number.
        """
        done = await self.client.portal.acall(_write(self, [increment_op(key, amount, default)]))
        return done[0]

    def increment_state(self: _Stateful, key: str, amount: float = 1, default: float = 0) -> Any:
        """Add to a number; see `aincrement_state`."""
        return self.client.portal.call(_write(self, [increment_op(key, amount, default)]))[0]

    async def adelete_state(self: _Stateful, key: str) -> None:
        """Remove one value; removing what is not there is no error."""
        await self.client.portal.acall(_write(self, [delete_op(key)]))

    def delete_state(self: _Stateful, key: str) -> None:
        """Remove one value; see `adelete_state`."""
        self.client.portal.call(_write(self, [delete_op(key)]))

    async def acompare_and_set_state(self: _Stateful, key: str, expected: Any, value: Any) -> None:
        """Set a value if it is still what was read. `expected=None` means: not set.

        Raises:
            StateConflict: it is something else; nothing was changed.
        """
        await self.client.portal.acall(_write(self, [swap_op(key, expected, value)]))

    def compare_and_set_state(self: _Stateful, key: str, expected: Any, value: Any) -> None:
        """Set a value if it is still what was read; see `acompare_and_set_state`."""
        self.client.portal.call(_write(self, [swap_op(key, expected, value)]))


async def _get(session: _Stateful, key: str | None, default: Any) -> Any:
    await session.client.open()
    if session.user_id is not None:
        await session.client.check_owner(session.keys, session.user_id)
    if key is None:
        return await session.client.state.read(session_scope(session.keys))
    return await session.client.state.get(await _scope(session, check_field(key)), key, default)


async def _write(session: _Stateful, ops: list[StateOp]) -> list[Any]:
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


async def _scope(session: _Stateful, key: str) -> StateScope:
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
