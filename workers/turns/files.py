"""The files of a turn's session, for the engine: read for requests, fetched from URLs, stored for tools."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Final

from broker_config.settings import Settings
from sessions.client.arguments.attachments import Attachment, attachment_of, checked_media_type, file_name, kind_for
from sessions.errors import (
    BackendError,
    DocumentError,
    FileUnavailable,
    InvalidFile,
    SessionfleetError,
    StoreUnavailable,
    ToolError,
    TooManyFiles,
    UnknownFile,
)
from sessions.protocol.media_types import media_type_of
from sessions.protocol.message import MediaPart
from sessions.store.files import FileContent, FileStore, StoredFile
from sessions.store.keys import SessionKeys
from sessions.store.submission import Upload
from workers.retrieval.fetching import Fetched, FetchLimits, fetch_url

_PAUSE: Final = 0.2
_REFUSED: Final = (InvalidFile, TooManyFiles, UnknownFile, BackendError, OSError)


class TurnFiles:
    """`SessionFiles` of one turn.

    Args:
        keys: of the turn's session; turn: the turn's part of its id.
        lasts: whether the turn still has time to wait for the store.
    """

    def __init__(
        self, settings: Settings, store: FileStore, keys: SessionKeys, turn: str, lasts: Callable[[], bool]
    ) -> None:
        self._settings = settings
        self._store = store
        self._keys = keys
        self._turn = turn
        self._lasts = lasts

    async def read(self, file_id: str) -> bytes | None:
        """A file's bytes; None if the session does not have it (any more)."""
        try:
            return await self._store.content(self._keys, file_id)
        except UnknownFile:
            return None

    async def fetch(self, part: MediaPart) -> MediaPart:
        """Fetch a file from its URL, and store it in the session.

        Raises:
            FileUnavailable: it cannot be fetched, or is not what the message says.
        """
        fetched, media_type = await self._fetched(part)
        name = part.name or file_name(fetched.name) or part.type
        try:
            stored = await self._add(FileContent(io.BytesIO(fetched.data), name, media_type))
        except (InvalidFile, TooManyFiles, UnknownFile) as error:
            raise FileUnavailable(f"{part.described} cannot be kept: {error}") from error
        return stored.part.model_copy(update={"name": name, "media_type": media_type, "type": part.type})

    async def _fetched(self, part: MediaPart) -> tuple[Fetched, str]:
        s = self._settings
        if s.file_urls == "off":
            raise FileUnavailable(
                "workers of this deployment do not fetch files from URLs: upload the file, or set "
                "SESSIONFLEET_FILE_URLS=public"
            )
        try:
            fetched = await fetch_url(
                part.url,
                limits=FetchLimits(document_bytes=s.file_limit_bytes),
                allow_private=s.file_urls == "any",
                allowed_hosts=s.allowed_hosts,
            )
            said = (fetched.content_type or "").partition(";")[0]
            known = media_type_of(fetched.name) or said
            media_type = checked_media_type(part.media_type or (said if kind_for(said) == part.type else known))
        except (DocumentError, InvalidFile) as error:
            raise FileUnavailable(f"{FileUnavailable.__doc__} {error}") from error
        if kind_for(media_type) != part.type:
            raise FileUnavailable(
                f"{part.described}: its server says that it is {media_type!r}, not of type {part.type}"
            )
        return fetched, media_type

    async def stored(self, value: object) -> MediaPart | None:
        """Store what a tool returned, if it is a file; None for any other value.

        Raises:
            ToolError: it cannot be stored.
        """
        try:
            if isinstance(value, StoredFile):
                return (await self._store.details(self._keys, value.id)).part
            if getattr(value, "kind", None) == "binary":  # pydantic-ai's BinaryContent
                value = attachment_of(value.data, media_type=value.media_type)  # type: ignore[attr-defined]
            if not isinstance(value, Attachment):
                return None
            part = value.part
            if isinstance(part, MediaPart):
                return await self.fetch(part)
            stored = await self._add(await asyncio.to_thread(_content, part))
            return stored.part.model_copy(update={"name": part.name, "media_type": part.media_type, "type": part.kind})
        except _REFUSED as error:
            why = error if isinstance(error, SessionfleetError) else type(error).__name__
            raise ToolError(f"a file that the tool returned cannot be stored: {why}") from error

    async def _add(self, content: FileContent) -> StoredFile:
        """Store a file; if the store is unreachable, for as long as the turn has time: a tool's effect happened."""
        await self._store.measure(content)
        while True:
            try:
                return await self._store.add(self._keys, content, user_id=None, ttl=None, turn=self._turn)
            except StoreUnavailable:
                if not self._lasts():
                    raise
                await asyncio.sleep(_PAUSE)


def _content(upload: Upload) -> FileContent:
    content = upload.content.read_bytes() if isinstance(upload.content, Path) else upload.content
    source = io.BytesIO(content) if isinstance(content, bytes) else content
    return FileContent(source, upload.name, upload.media_type)
