"""Sharing of sessions at a gateway."""

from __future__ import annotations

from collections.abc import Callable

from sessions.client.ports import SessionRef
from sessions.protocol.access import Rights
from sessions.remote.address import segment
from sessions.remote.client import RemoteClient
from sessions.remote.wire import parsing


class RemoteSharing:
    """`SharingCalls` over HTTP."""

    def __init__(self, client: Callable[[SessionRef], RemoteClient]) -> None:
        self._client = client

    async def share(self, session: SessionRef, user_id: str, rights: Rights) -> None:
        """Let another user read or write the session; see `SharingMethods.ashare`."""
        await self._client(session).api("PUT", f"/shares/{segment(user_id)}", json={"rights": rights})

    async def unshare(self, session: SessionRef, user_id: str) -> bool:
        """End the sharing with a user; see `SharingMethods.aunshare`."""
        return await self._client(session).api_found("DELETE", f"/shares/{segment(user_id)}")

    async def shared_with(self, session: SessionRef) -> dict[str, Rights]:
        """Whom it is shared with; see `SharingMethods.ashared_with`."""
        answer = await self._client(session).api("GET", "/shares")
        with parsing("shares"):
            return {share["user_id"]: share["rights"] for share in answer["shares"]}
