"""The method of `Session` that exports it, and the result of an import."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from sessions.client.backend import BackedSession, Progress
from sessions.client.blocking import blocking
from sessions.transfer.folder import FolderWriter, folder_name
from sessions.transfer.portable import SUFFIX, PortableWriter
from sessions.transfer.records import PastTurn, Record, SessionHeader

_AT_ONCE: Final = 50
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class ImportReport(Generic[S]):
    """The result of `Session.import_from`.

    Attributes:
        session: the new session.
        format: the format that was detected, for people.
        counts: how much was imported: turns, messages, memories, files, documents.
        left_out: what could not be carried over, one line each.
        repeated: the session was there already, from an earlier import of the same content.
    """

    session: S
    format: str
    counts: Mapping[str, int]
    left_out: tuple[str, ...] = ()
    repeated: bool = False


class TransferMethods:
    """The method of `Session` that exports it, with an async form."""

    async def aexport(self: BackedSession, path: str | Path = ".sessions", *, progress: Progress | None = None) -> Path:
        """Write everything that the session has into a folder or one file. What is written is not encrypted.

        It contains the history as stored messages, state, agents, memories, checkpoints, files, and documents as the
        texts of their passages. Open turns are not in it. `Session.import_from` reads it.

        Args:
            path: a name that ends in `.jsonl` is one portable file. Anything else is a folder, in which the session
                gets a folder of its own: `<path>/<session id>/state.json`, `memory/`, `knowledge/`. An earlier export
                of the session is replaced.
            progress: called with the turns so far and the number of all turns, on the client's event loop.

        Returns:
            The file, or the session's folder.

        Raises:
            NotFound, SessionExpired: there is no such session. SessionOwnerError: it belongs to another user.
            InvalidExport: there is something else under that name. NoWorkerAlive: no worker can read its documents.
        """
        where = Path(path)
        if where.suffix != SUFFIX:
            where = where / folder_name(self.session_id)
        await self.portal.acall(_written(self.backend.transfer.records(self), where, progress))
        return where

    export = blocking(aexport)


async def _written(records: AsyncGenerator[Record], where: Path, progress: Progress | None) -> None:
    """Write the records as they come. Only a complete export appears under its name."""
    async with aclosing(records):
        first = await anext(records)  # nothing is written for a session that does not exist
        total = first.turns if isinstance(first, SessionHeader) else 0
        writer = await asyncio.to_thread(_writer, where)
        with writer:
            page, turns = [first], 0
            async for record in records:
                page.append(record)
                if len(page) >= _AT_ONCE:
                    turns += sum(isinstance(each, PastTurn) for each in page)
                    await asyncio.to_thread(writer.write, page)
                    page = []
                    if progress is not None:
                        progress(turns, total)
            await asyncio.to_thread(writer.write, page)
            await asyncio.to_thread(writer.finish)
    if progress is not None:
        progress(total, total)


def _writer(where: Path) -> PortableWriter | FolderWriter:
    return PortableWriter(where) if where.suffix == SUFFIX else FolderWriter(where)
