"""The files of a session in the fleet's store."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from sessions.client.fleet_client import FleetClient
from sessions.client.ports import SessionRef
from sessions.store.files import StoredFile
from sessions.store.submission import Upload


class LocalFiles:
    """`FileCalls` over the fleet's store."""

    def __init__(self, fleet: Callable[[], FleetClient]) -> None:
        self._fleet = fleet

    async def upload(self, session: SessionRef, file: Upload) -> StoredFile:
        """Store a file, unless the session has it already; see `FileMethods.aupload`."""
        fleet = self._fleet()
        await fleet.ownership.check(session.keys, session.user_id, "write")
        return await fleet.files.upload(session.keys, file, user_id=session.user_id, ttl=session.ttl)

    async def listed(self, session: SessionRef) -> list[StoredFile]:
        """The session's files; see `FileMethods.afiles`."""
        fleet = self._fleet()
        await fleet.ownership.check(session.keys, session.user_id)
        return await fleet.stores.files.listed(session.keys)

    async def details(self, session: SessionRef, file_id: str) -> StoredFile:
        """One file; see `FileMethods.afiles`."""
        fleet = self._fleet()
        await fleet.ownership.check(session.keys, session.user_id)
        return await fleet.files.details(session.keys, file_id)

    async def read(self, session: SessionRef, file_id: str) -> AsyncGenerator[bytes]:
        """A file's bytes, piece by piece; see `FileMethods.aread_file`."""
        fleet = self._fleet()
        await fleet.ownership.check(session.keys, session.user_id)
        async for piece in fleet.files.read(session.keys, file_id):
            yield piece

    async def delete(self, session: SessionRef, file_id: str) -> bool:
        """Delete a file; see `FileMethods.adelete_file`."""
        fleet = self._fleet()
        await fleet.ownership.check(session.keys, session.user_id, "write")
        return await fleet.stores.files.remove(session.keys, file_id, session.user_id)
