"""The files of a remote session, at a gateway."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from sessions.client.ports import SessionRef
from sessions.errors import UnknownFile
from sessions.remote.address import segment
from sessions.remote.client import RemoteClient
from sessions.remote.uploads import stored_file, upload
from sessions.remote.wire import parsing
from sessions.store.files import StoredFile
from sessions.store.submission import Upload


class RemoteFiles:
    """`FileCalls` over a gateway's REST API."""

    def __init__(self, client: Callable[[SessionRef], RemoteClient]) -> None:
        self._client = client

    async def upload(self, session: SessionRef, file: Upload) -> StoredFile:
        """Store a file, unless the session has it already; see `FileMethods.aupload`."""
        return await upload(self._client(session), file, session.ttl)

    async def listed(self, session: SessionRef) -> list[StoredFile]:
        """The session's files; see `FileMethods.afiles`."""
        answer = await self._client(session).api("GET", "/files")
        with parsing("files"):
            return [stored_file(each) for each in answer["files"]]

    async def details(self, session: SessionRef, file_id: str) -> StoredFile:
        """One file; see `FileMethods.afiles`."""
        found = next((file for file in await self.listed(session) if file.id == file_id), None)
        if found is None:
            raise UnknownFile(f"file {file_id[:80]!r} is not in session {session.session_id!r}. {UnknownFile.__doc__}")
        return found

    async def read(self, session: SessionRef, file_id: str) -> AsyncGenerator[bytes]:
        """A file's bytes; see `FileMethods.aread_file`."""
        yield await self._client(session).download(f"/files/{segment(file_id)}")

    async def delete(self, session: SessionRef, file_id: str) -> bool:
        """Delete a file; see `FileMethods.adelete_file`."""
        try:
            await self._client(session).api("DELETE", f"/files/{segment(file_id)}")
        except UnknownFile:
            return False
        return True
