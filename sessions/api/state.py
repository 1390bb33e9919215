"""A session's state: small JSON values beside the conversation, shared by its agents, tools and every process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from sessions.client.ports import HasPortal, StateCalls
from sessions.local import state as local_state
from sessions.protocol.state_ops import delete_op, increment_op, set_op, swap_op


class _Session(Protocol):
    """What of a session these methods need."""

    _state_calls: ClassVar[StateCalls]

    @property
    def client(self) -> HasPortal: ...


class StateMethods:
    """The state methods of `Session`, each with its async twin.

    A key's prefix says whose value it is: none this session's, `user:` the user's in all sessions, `app:` the
    tenant's. Each call is atomic within one of these.
    """

    _state_calls: ClassVar[StateCalls] = local_state

    # --- read -------------------------------------------------------------------------------------------

    async def aget_state(self: _Session, key: str | None = None, default: Any = None) -> Any:
        """One value, or `default` where there is none; without a key, all of this session's as a dict."""
        return await self.client.portal.acall(self._state_calls.get(self, key, default))

    def get_state(self: _Session, key: str | None = None, default: Any = None) -> Any:
        """One value, or all; see `aget_state`."""
        return self.client.portal.call(self._state_calls.get(self, key, default))

    # --- change -----------------------------------------------------------------------------------------

    async def aset_state(self: _Session, key: str, value: Any) -> None:
        """Set one value.

        Raises:
            InvalidState: the key is no text, or the value no JSON.
            SessionOwnerError: the session belongs to another user.
        """
        await self.client.portal.acall(self._state_calls.write(self, [set_op(key, value)]))

    def set_state(self: _Session, key: str, value: Any) -> None:
        """Set one value; see `aset_state`."""
        self.client.portal.call(self._state_calls.write(self, [set_op(key, value)]))

    async def aupdate_state(self: _Session, values: Mapping[str, Any]) -> None:
        """Set several values, all or none; they must be of one scope."""
        await self.client.portal.acall(self._state_calls.write(self, [set_op(k, v) for k, v in values.items()]))

    def update_state(self: _Session, values: Mapping[str, Any]) -> None:
        """Set several values; see `aupdate_state`."""
        self.client.portal.call(self._state_calls.write(self, [set_op(k, v) for k, v in values.items()]))

    async def aincrement_state(self: _Session, key: str, amount: float = 1, default: float = 0) -> Any:
        """Add to a number, atomically, and return the new one. A missing one counts as `default`.

        Raises:
            InvalidState: the value, the amount or the default is no number.
        """
        done = await self.client.portal.acall(self._state_calls.write(self, [increment_op(key, amount, default)]))
        return done[0]

    def increment_state(self: _Session, key: str, amount: float = 1, default: float = 0) -> Any:
        """Add to a number; see `aincrement_state`."""
        return self.client.portal.call(self._state_calls.write(self, [increment_op(key, amount, default)]))[0]

    async def adelete_state(self: _Session, key: str) -> None:
        """Remove one value; removing what is not there is no error."""
        await self.client.portal.acall(self._state_calls.write(self, [delete_op(key)]))

    def delete_state(self: _Session, key: str) -> None:
        """Remove one value; see `adelete_state`."""
        self.client.portal.call(self._state_calls.write(self, [delete_op(key)]))

    async def acompare_and_set_state(self: _Session, key: str, expected: Any, value: Any) -> None:
        """Set a value if it is still what was read. `expected=None` means: not set.

        Raises:
            StateConflict: it is something else; nothing was changed.
        """
        await self.client.portal.acall(self._state_calls.write(self, [swap_op(key, expected, value)]))

    def compare_and_set_state(self: _Session, key: str, expected: Any, value: Any) -> None:
        """Set a value if it is still what was read; see `acompare_and_set_state`."""
        self.client.portal.call(self._state_calls.write(self, [swap_op(key, expected, value)]))
