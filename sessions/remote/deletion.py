"""Deleting many sessions at a gateway."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sessions.client.ports import SessionRef
from sessions.remote.address import segment
from sessions.remote.client import RemoteClient
from sessions.remote.wire import parsing


class RemoteDeletion:
    """`DeletionCalls` over a gateway's REST API."""

    def __init__(self, client: Callable[[SessionRef], RemoteClient]) -> None:
        self._client = client

    async def delete_user(self, session: SessionRef) -> dict[str, int]:
        """Delete everything of the user; see `Session.adelete_user`."""
        receipt = await self._client(session).of_all("DELETE", f"/users/{segment(str(session.user_id))}")
        with parsing("receipt"):
            return dict(receipt)

    async def prune(self, session: SessionRef, unused_since: datetime) -> dict[str, int]:
        """Delete the sessions that were not used since a time; see `Session.aprune`."""
        params = {"unused_since": unused_since.isoformat()}
        receipt = await self._client(session).of_all("DELETE", "/sessions", params=params)
        with parsing("receipt"):
            return dict(receipt)
