"""Files of messages to a gateway: uploaded before their message, which refers to them by their ids."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import IO, Any, Protocol

from sessions.errors import InvalidFile
from sessions.protocol.message import MediaPart, TextPart
from sessions.remote.wire import parse_time, parsing
from sessions.store.files import StoredFile
from sessions.store.submission import Submission, Upload


class Api(Protocol):
    """A session's requests to its gateway."""

    async def api(self, method: str, path: str = "", **options: Any) -> Any:
        """Send a request about the session; returns its JSON response."""
        ...


async def upload(client: Api, file: Upload, session_ttl: float | None = None) -> StoredFile:
    """Upload a file; the gateway recognises one that the session has already.

    Raises:
        FileNotFoundError: there is no file at its path. InvalidFile, TooManyFiles, RemoteError.
    """
    try:
        content = await asyncio.to_thread(_read, file.content)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {str(file.content)!r} any more") from None
    except OSError as error:
        raise InvalidFile(f"{file.name!r} cannot be read: {error.strerror or error}") from error
    params = {"name": file.name, **({} if session_ttl is None else {"session_ttl": session_ttl})}
    return stored_file(await client.api("POST", "/files", raw=(content, file.media_type), params=params))


def _read(content: bytes | Path | IO[bytes]) -> bytes:
    if isinstance(content, Path):
        return content.read_bytes()
    return content if isinstance(content, bytes) else content.read()


async def with_stored(client: Api, submission: Submission) -> Submission:
    """The submission with its files uploaded."""
    if not submission.content:
        return submission
    parts: list[TextPart | MediaPart] = []
    for part in submission.content:
        if isinstance(part, Upload):
            stored = await upload(client, part, submission.session_ttl)
            parts.append(MediaPart(type=part.kind, file_id=stored.id))
        else:
            parts.append(part)
    return submission.with_parts(parts)


def stored_file(resource: Any) -> StoredFile:
    """A file resource of a gateway."""
    with parsing("file"):
        added = parse_time(resource["added_at"])
        if added is None:
            raise ValueError("added_at is null")
        return StoredFile(resource["id"], resource["name"], resource["media_type"], int(resource["size"]), added)
