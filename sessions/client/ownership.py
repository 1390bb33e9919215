"""Who may use a session, its owner and those it is shared with: checked before its records are read or written."""

from __future__ import annotations

import asyncio

from sessions.client.connection import FleetConnection
from sessions.errors import SessionOwnerError
from sessions.protocol.access import Access, grants, refused
from sessions.store.keys import SessionKeys


class Ownership:
    """Compares callers with the owners of sessions. The first user of a session owns it."""

    def __init__(self, connection: FleetConnection) -> None:
        self._connection = connection

    async def owner(self, keys: SessionKeys) -> str | None:
        """The user that the session belongs to, if any; connects first."""
        await self._connection.open()
        owner = await self._connection.stores.scripts.read("HGET", keys.meta, "owner")
        return None if owner is None else owner.decode()

    async def owner_for(self, keys: SessionKeys, user_id: str | None, access: Access = "read") -> str | None:
        """The user that a caller acts for: the one it names, otherwise the session's owner.

        Raises:
            SessionOwnerError: see `check`.
        """
        owner = await self._checked_owner(keys, user_id, access)
        return user_id or owner

    async def check(self, keys: SessionKeys, user_id: str | None, access: Access = "read") -> None:
        """Refuse a user who is not the session's owner, and with whom the owner has not shared it for that.

        Raises:
            SessionOwnerError: the session belongs to another user.
        """
        await self.owner_for(keys, user_id, access)

    async def _checked_owner(self, keys: SessionKeys, user_id: str | None, access: Access) -> str | None:
        """The session's owner, if any, after the check."""
        owner = await self.owner(keys)
        if user_id is not None and owner not in (None, user_id):
            rights = await self._connection.stores.shares.rights(keys, user_id)
            if not grants(rights, access):
                raise refused(keys.session_id, user_id, access)
        return owner

    async def check_turn(self, keys: SessionKeys, part: str, user_id: str | None) -> None:
        """Refuse a user who may read neither the session nor the turn: a turn's record may outlive its session.

        Raises:
            SessionOwnerError: the session, or an expired one of the same id, belongs to another user.
        """
        if user_id is None:
            await self.check(keys, None)
            return
        await self._connection.open()  # so that all reads share one pipeline
        owner, turns_owner = await asyncio.gather(
            self._checked_owner(keys, user_id, "read"), self._connection.stores.turns.user(keys, part)
        )
        if turns_owner not in (None, user_id, owner):
            raise SessionOwnerError(f"turn {keys.public_id(part)!r} belongs to another user than {user_id!r}")
