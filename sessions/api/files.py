"""The methods of `Session` about files: images, documents and audio of messages and of tools' results."""

from __future__ import annotations

import os

from sessions.client.arguments.attachments import Attachment, attachment_of
from sessions.client.backend import BackedSession
from sessions.client.blocking import blocking
from sessions.errors import InvalidFile
from sessions.store.files import StoredFile
from sessions.store.submission import Upload


class FileMethods:
    """The methods of `Session` about files, each with an async form."""

    async def aupload(
        self: BackedSession,
        source: Attachment | str | os.PathLike[str] | bytes,
        *,
        media_type: str | None = None,
        name: str | None = None,
    ) -> StoredFile:
        """Store a file in the session, so that messages can contain it: `session.chat(["What is this?", file])`.

        Optional: files in a message are uploaded with it. The same content is stored only once. A file that no turn
        uses is removed after SESSIONFLEET_FILE_UNUSED_TTL (an hour); one that a turn uses lives as long as the session.

        Args:
            source: an `Image`, `Document` or `Audio`, or a path or bytes.
            media_type: such as "image/png"; needed for bytes.
            name: the file's name; by default that of the path.

        Raises:
            FileNotFoundError: there is no such file. InvalidFile (FileTooLarge): it cannot be sent.
            TooManyFiles: the session's limit is reached. SessionOwnerError, StoreFull, BackendError.
        """
        part = attachment_of(source, media_type=media_type, name=name).part
        if not isinstance(part, Upload):
            raise InvalidFile("a URL cannot be uploaded: put it into a message, and a worker fetches it")
        return await self.portal.acall(self.backend.files.upload(self, part))

    upload = blocking(aupload)

    async def afiles(self: BackedSession) -> list[StoredFile]:
        """The session's files, the oldest first: those of messages and of tools' results, and new uploads."""
        return await self.portal.acall(self.backend.files.listed(self))

    files = blocking(afiles)

    async def aread_file(self: BackedSession, file_id: str) -> bytes:
        """A file's bytes.

        Raises:
            UnknownFile: the session does not have it.
        """

        async def read() -> bytes:
            return b"".join([piece async for piece in self.backend.files.read(self, file_id)])

        return await self.portal.acall(read())

    read_file = blocking(aread_file)

    async def adelete_file(self: BackedSession, file_id: str) -> bool:
        """Delete a file with its bytes; returns whether it existed. In the history a note stands in its place."""
        return await self.portal.acall(self.backend.files.delete(self, file_id))

    delete_file = blocking(adelete_file)
