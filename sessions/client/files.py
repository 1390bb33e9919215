"""A session's files, as a client sees them: uploaded before their message, read, listed and deleted."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

from sessions.client.admission import Admission
from sessions.client.connection import FleetConnection
from sessions.errors import InvalidFile
from sessions.protocol.message import MediaPart, TextPart
from sessions.store.files import FileContent, StoredFile
from sessions.store.keys import SessionKeys
from sessions.store.submission import Part, Submission, Upload


class Files:
    """Stores the files of messages. Its coroutines run on the portal's event loop only."""

    def __init__(self, connection: FleetConnection, admission: Admission) -> None:
        self._connection = connection
        self._admission = admission

    async def with_stored(self, keys: SessionKeys, submission: Submission) -> Submission:
        """The submission with its files stored: its request refers to them by their ids.

        Raises:
            InvalidFile, UnknownFile, TooManyFiles, SessionOwnerError, StoreFull, BackendError: nothing was accepted.
        """
        if not submission.content:
            return submission
        return submission.with_parts([await self._stored(keys, submission, part) for part in submission.content])

    async def _stored(self, keys: SessionKeys, submission: Submission, part: Part) -> TextPart | MediaPart:
        if isinstance(part, Upload):
            stored = await self.upload(keys, part, user_id=submission.user_id, ttl=submission.session_ttl)
            return stored.part.model_copy(update={"type": part.kind})
        if isinstance(part, MediaPart) and part.file_id:
            # Whatever the caller says about it: what is stored counts.
            found = await self._connection.stores.files.details(keys, part.file_id)
            if found.kind != part.type:
                raise InvalidFile(f"file {part.file_id[:80]!r} is {found.media_type!r}: send it as {found.kind!r}")
            return found.part
        return part

    async def upload(self, keys: SessionKeys, upload: Upload, *, user_id: str | None, ttl: float | None) -> StoredFile:
        """Store a file, unless the session has it already. If no turn uses it within an hour, it is removed.

        Raises:
            FileNotFoundError: there is no file at its path. InvalidFile (FileTooLarge), TooManyFiles,
            SessionOwnerError, StoreFull, BackendError: nothing of it is left in the store.
        """
        async with _opened(upload) as source:
            return await self.store(keys, source, upload.name, upload.media_type, user_id=user_id, ttl=ttl)

    async def store(
        self,
        keys: SessionKeys,
        source: IO[bytes],
        name: str,
        media_type: str,
        *,
        user_id: str | None,
        ttl: float | None,
    ) -> StoredFile:
        """Store the content of an open file; see `upload`."""
        await self._connection.open()
        files = self._connection.stores.files
        content = FileContent(source, name, media_type)
        await files.measure(content)
        await self._admission.refuse_file(content.size)
        return await files.add(keys, content, user_id=user_id, ttl=ttl)

    async def read(self, keys: SessionKeys, file_id: str) -> AsyncGenerator[bytes]:
        """A file's bytes, piece by piece.

        Raises:
            UnknownFile: the session does not have it.
        """
        await self._connection.open()
        async for piece in self._connection.stores.files.read(keys, file_id):
            yield piece

    async def details(self, keys: SessionKeys, file_id: str) -> StoredFile:
        """A file's details.

        Raises:
            UnknownFile: the session does not have it.
        """
        await self._connection.open()
        return await self._connection.stores.files.details(keys, file_id)


@asynccontextmanager
async def _opened(upload: Upload) -> AsyncIterator[IO[bytes]]:
    """The upload's bytes as an open file."""
    if not isinstance(upload.content, Path):
        yield io.BytesIO(upload.content) if isinstance(upload.content, bytes) else upload.content
        return
    try:
        source = await asyncio.to_thread(upload.content.open, "rb")
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {str(upload.content)!r} any more") from None
    except OSError as error:
        raise InvalidFile(f"{upload.name!r} cannot be read: {error.strerror or error}") from error
    try:
        yield source
    finally:
        source.close()
