"""A session's state: small JSON values kept with the conversation, shared by its agents, tools and every process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sessions.client.blocking import blocking
from sessions.client.ports import BackedSession
from sessions.protocol.state_ops import delete_op, increment_op, set_op, swap_op


class StateMethods:
    """The state methods of `Session`, each with its async form.

    A key's prefix says whose value it is: none this session's, `user:` the user's in all sessions, `app:` the
    tenant's. Each call is atomic within one of these.
    """

    # --- read -------------------------------------------------------------------------------------------

    async def aget_state(self: BackedSession, key: str | None = None, default: Any = None) -> Any:
        """One value, or `default` where there is none; without a key, all of this session's as a dict."""
        return await self.portal.acall(self.backend.state.get(self, key, default))

    get_state = blocking(aget_state)

    # --- change -----------------------------------------------------------------------------------------

    async def aset_state(self: BackedSession, key: str, value: Any) -> None:
        """Set one value.

        Raises:
            InvalidState: the key is no text, or the value no JSON.
            SessionOwnerError: the session belongs to another user.
        """
        await self.portal.acall(self.backend.state.write(self, [set_op(key, value)]))

    set_state = blocking(aset_state)

    async def aupdate_state(self: BackedSession, values: Mapping[str, Any]) -> None:
        """Set several values, all or none; they must be of one scope."""
        await self.portal.acall(self.backend.state.write(self, [set_op(k, v) for k, v in values.items()]))

    update_state = blocking(aupdate_state)

    async def aincrement_state(self: BackedSession, key: str, amount: float = 1, default: float = 0) -> Any:
        """Add to a number, atomically, and return the new one. A missing one counts as `default`.

        Raises:
            InvalidState: the value, the amount or the default is no number.
        """
        done = await self.portal.acall(self.backend.state.write(self, [increment_op(key, amount, default)]))
        return done[0]

    increment_state = blocking(aincrement_state)

    async def adelete_state(self: BackedSession, key: str) -> None:
        """Remove one value; removing what is not there is no error."""
        await self.portal.acall(self.backend.state.write(self, [delete_op(key)]))

    delete_state = blocking(adelete_state)

    async def acompare_and_set_state(self: BackedSession, key: str, expected: Any, value: Any) -> None:
        """Set a value if it is still what was read. `expected=None` means: not set.

        Raises:
            StateConflict: it is something else; nothing was changed.
        """
        await self.portal.acall(self.backend.state.write(self, [swap_op(key, expected, value)]))

    compare_and_set_state = blocking(acompare_and_set_state)
