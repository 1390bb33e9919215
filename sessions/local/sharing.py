"""Sharing of sessions in the fleet's store."""

from __future__ import annotations

from collections.abc import Callable

from sessions.client.fleet_client import FleetClient
from sessions.client.ports import SessionRef
from sessions.protocol.access import Rights


class LocalSharing:
    """`SharingCalls` over the fleet's store."""

    def __init__(self, fleet: Callable[[], FleetClient]) -> None:
        self._fleet = fleet

    async def share(self, session: SessionRef, user_id: str, rights: Rights) -> None:
        """Let another user read or write the session; see `SharingMethods.ashare`."""
        fleet = self._fleet()
        await fleet.open()
        await fleet.stores.shares.share(session.keys, session.user_id, user_id, rights)

    async def unshare(self, session: SessionRef, user_id: str) -> bool:
        """End the sharing with a user; see `SharingMethods.aunshare`."""
        fleet = self._fleet()
        await fleet.open()
        return await fleet.stores.shares.share(session.keys, session.user_id, user_id, None)

    async def shared_with(self, session: SessionRef) -> dict[str, Rights]:
        """Whom it is shared with; see `SharingMethods.ashared_with`."""
        fleet = self._fleet()
        await fleet.ownership.check(session.keys, session.user_id)
        return await fleet.stores.shares.shared_with(session.keys)
