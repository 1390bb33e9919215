"""A session's state: small JSON values, shared by its agents, its tools and every process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sessions.client.backend import BackedSession
from sessions.client.blocking import blocking
from sessions.protocol.state_ops import delete_op, increment_op, set_op, swap_op


class StateMethods:
    """The state methods of `Session`, each with an async form.

    A key's prefix is its scope: `user:` for the user's state (in all sessions), `app:` for the tenant's, none for this
    session's. Each call is atomic, within one scope.
    """

    # --- read -------------------------------------------------------------------------------------------

    async def aget_state(self: BackedSession, key: str | None = None, default: Any = None) -> Any:
        """One value, or `default` if there is none; without a key, all of the session's own state as a dict."""
        return await self.portal.acall(self.backend.state.get(self, key, default))

    get_state = blocking(aget_state)

    # --- change -----------------------------------------------------------------------------------------

    async def aset_state(self: BackedSession, key: str, value: Any) -> None:
        """Set one value.

        Raises:
            InvalidState: the key is not a string, or the value is not JSON.
            SessionOwnerError: the session belongs to another user.
        """
        await self.portal.acall(self.backend.state.write(self, [set_op(key, value)]))

    set_state = blocking(aset_state)

    async def aupdate_state(self: BackedSession, values: Mapping[str, Any]) -> None:
        """Set several values, all or none; their keys must have the same scope."""
        await self.portal.acall(self.backend.state.write(self, [set_op(k, v) for k, v in values.items()]))

    update_state = blocking(aupdate_state)

    async def aincrement_state(self: BackedSession, key: str, amount: float = 1, default: float = 0) -> Any:
        """Add to a number, atomically, and return the new one. A missing value counts as `default`.

        Raises:
            InvalidState: the value, the amount or the default is not a number.
        """
        done = await self.portal.acall(self.backend.state.write(self, [increment_op(key, amount, default)]))
        return done[0]

    increment_state = blocking(aincrement_state)

    async def adelete_state(self: BackedSession, key: str) -> None:
        """Remove one value; not an error if there is none."""
        await self.portal.acall(self.backend.state.write(self, [delete_op(key)]))

    delete_state = blocking(adelete_state)

    async def acompare_and_set_state(self: BackedSession, key: str, expected: Any, value: Any) -> None:
        """Set a value if the current one equals `expected`; None expects that there is none.

        Raises:
            StateConflict: the current value is another one; nothing was changed.
        """
        await self.portal.acall(self.backend.state.write(self, [swap_op(key, expected, value)]))

    compare_and_set_state = blocking(acompare_and_set_state)
