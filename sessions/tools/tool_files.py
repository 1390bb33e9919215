"""The files that a tool can open: those of its session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from sessions.errors import UnknownFile
from sessions.protocol.message import MediaPart


@dataclass(frozen=True, slots=True)
class ToolFiles:
    """Iterates over the files of the message that the turn answers, and reads any file of the session.

    Each has `file_id`, `name`, `media_type`, `size` (bytes) and `type` (`image`, `document` or `audio`). A tool that
    returns an `Image`, `Document` or `Audio` adds a file to the session.
    """

    of_message: tuple[MediaPart, ...] = ()
    reader: Callable[[str], Awaitable[bytes | None]] | None = None
    loop: asyncio.AbstractEventLoop | None = None

    def __iter__(self) -> Iterator[MediaPart]:
        return iter(self.of_message)

    def __len__(self) -> int:
        return len(self.of_message)

    async def aread(self, file: MediaPart | str) -> bytes:
        """A file's bytes, for a tool that is a coroutine function.

        Args:
            file: one of these files, or the id of another one of the session.

        Raises:
            UnknownFile: the session does not have it.
        """
        file_id = file if isinstance(file, str) else file.file_id
        content = None if self.reader is None else await self.reader(file_id)
        if content is None:
            raise UnknownFile(f"file {file_id[:80]!r} is not in this session. {UnknownFile.__doc__}")
        return content

    def read(self, file: MediaPart | str) -> bytes:
        """A file's bytes, for a tool that is a plain function (it runs in a thread); see `aread`."""
        if self.loop is None:
            return asyncio.run(self.aread(file))
        return asyncio.run_coroutine_threadsafe(self.aread(file), self.loop).result()
