"""The embedded KnowledgeIndex: one folder, one owner, and one thread that calls the engine.

One thread is enough, because the engine's calls exclude each other anyway (see `shard`); and with one, a search never
sees a half-finished publish. Each batch is a separate job, so that a search waits for a batch, not for a document.
"""

from __future__ import annotations

import asyncio
import functools
import math
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from broker_config.telemetry import get_logger
from sessions.errors import IndexUnavailable
from workers.retrieval.index.embedded import vacuum
from workers.retrieval.index.embedded.files import read_info
from workers.retrieval.index.embedded.shard import DATA, Shard
from workers.retrieval.index.names import valid_collection
from workers.retrieval.index.older_chunks import CompleteScopes
from workers.retrieval.index.ownership import IndexLock, claim
from workers.retrieval.ports import EmbeddingInfo, Hit, IndexPoint, IndexQuery, Scope

T = TypeVar("T")

_BATCH: Final = 128
_PAGE: Final = 128
_log = get_logger(__name__)


class EmbeddedIndex:
    """A KnowledgeIndex in a local folder; see `open`."""

    def __init__(self, lock: IndexLock) -> None:
        """Use the folder of this lock; `close` releases it."""
        self._lock = lock
        self._shards: dict[str, Shard] = {}
        self._complete = CompleteScopes(known_for=math.inf)  # nobody else writes to the folder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="knowledge-index")
        self._closed = False

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Take ownership of a folder and serve its collections.

        Raises:
            IndexLocked: another process owns the folder.
        """
        return cls(claim(folder))

    async def write(
        self, collection: str, model: EmbeddingInfo, points: Sequence[IndexPoint], *, published: bool = False
    ) -> None:
        """Write chunks; they are on disk when this returns."""
        if not points:
            return
        for start in range(0, len(points), _BATCH):
            await self._run(self._write, collection, model, points[start : start + _BATCH], published)
        await self._run(self._sync, collection)

    async def publish(self, collection: str, scope: Scope, source: str, revision: str) -> None:
        """Make a revision of a source visible, and remove the others. Does nothing if it was never written."""
        await self._run(self._publish, collection, scope, source, revision)

    async def search(self, collection: str, model: EmbeddingInfo, query: IndexQuery) -> list[Hit]:
        """The best published chunks; see `KnowledgeIndex.search`."""
        await self._complete.ensure(
            collection, query, lambda scopes: self._run(self._complete_piece, collection, scopes)
        )
        return await self._run(self._search, collection, model, query)

    async def remove(
        self, collection: str, scope: Scope, *, source: str | None = None, revision: str | None = None
    ) -> int:
        """Remove chunks, published or not. Returns how many there were."""
        return await self._run(self._remove, collection, scope, source, revision)

    async def count(
        self, collection: str, scope: Scope, *, source: str | None = None, revision: str | None = None
    ) -> int:
        """Count a scope's published chunks. With `revision`, unpublished chunks of that revision are included."""
        return await self._run(self._count, collection, scope, source, revision)

    async def scroll(
        self, collection: str, scope: Scope | None = None, *, source: str | None = None
    ) -> AsyncIterator[list[IndexPoint]]:
        """All published chunks, page by page. Chunks that are published or removed meanwhile may be missed."""
        after: Any = None
        while True:
            points, after = await self._run(self._page, collection, scope, source, after)
            if points:
                yield points
            if after is None:
                return

    async def collections(self) -> dict[str, EmbeddingInfo]:
        """The collections in the folder, with their models."""
        return await self._run(self._collections)

    async def tidy(self) -> None:
        """Rewrite collections of which a fifth was removed, or which an earlier version wrote, in a child process.

        Takes 1 s of CPU time for 10,000 chunks, 6 to 8 s and 1.6 GB of memory for 100,000. The event loop is not
        blocked; calls of this index wait.
        """
        await self._run(self._tidy)

    async def close(self) -> None:
        """Flush to disk and release the folder. Can be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._job(self._close)
        finally:
            self._thread.shutdown(wait=False)
            self._lock.release()

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        if self._closed:
            raise IndexUnavailable("the knowledge index is closed; open it again")
        return await self._job(work, *args)

    async def _job(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, functools.partial(work, *args))

    # The methods below run in the index's thread.

    def _folder(self, collection: str) -> Path:
        return self._lock.folder / valid_collection(collection)

    def _shard(self, collection: str) -> Shard | None:
        """The collection, opened on first use; None if it does not exist."""
        if collection not in self._shards:
            folder = self._folder(collection)
            if not folder.exists():
                return None
            self._shards[collection] = Shard.load(folder)
        return self._shards[collection]

    def _write(self, collection: str, model: EmbeddingInfo, points: Sequence[IndexPoint], published: bool) -> None:
        shard = self._shard(collection)
        if shard is None:
            shard = self._shards[collection] = Shard.create(self._folder(collection), model)
        shard.write(model, points, published=published)

    def _sync(self, collection: str) -> None:
        if shard := self._shard(collection):
            shard.sync()

    def _publish(self, collection: str, scope: Scope, source: str, revision: str) -> None:
        if shard := self._shard(collection):
            shard.publish(scope, source, revision)
            shard.sync()

    def _search(self, collection: str, model: EmbeddingInfo, query: IndexQuery) -> list[Hit]:
        shard = self._shard(collection)
        return shard.search(model, query) if shard else []

    def _complete_piece(self, collection: str, scopes: Sequence[Scope]) -> bool:
        shard = self._shard(collection)
        return shard.complete_piece(scopes) if shard else False

    def _remove(self, collection: str, scope: Scope, source: str | None, revision: str | None) -> int:
        shard = self._shard(collection)
        removed = shard.remove(scope, source, revision) if shard else 0
        if shard and removed:
            shard.sync()
        return removed

    def _count(self, collection: str, scope: Scope, source: str | None, revision: str | None) -> int:
        shard = self._shard(collection)
        return shard.count(scope, source, revision) if shard else 0

    def _page(
        self, collection: str, scope: Scope | None, source: str | None, after: Any
    ) -> tuple[list[IndexPoint], Any]:
        shard = self._shard(collection)
        return shard.page(scope, source, after, _PAGE) if shard else ([], None)

    def _collections(self) -> dict[str, EmbeddingInfo]:
        folders = sorted(path for path in self._lock.folder.iterdir() if path.is_dir() and path.name[0] != ".")
        return {folder.name: read_info(folder) for folder in folders}

    def _tidy(self) -> None:
        for collection, shard in list(self._shards.items()):
            if shard.worth_tidying():
                del self._shards[collection]
                shard.close()
                self._rewrite(shard.folder)
                self._shards[collection] = Shard.load(shard.folder, rewritten=True)

    def _rewrite(self, folder: Path) -> None:
        # The child inherits the lock: if this process dies, no other opens the folder before the child is done.
        command = [sys.executable, "-P", vacuum.__file__, str(folder / DATA)]
        held = [self._lock.descriptor]
        try:
            done = subprocess.run(command, capture_output=True, text=True, pass_fds=held, check=False)
        except OSError as error:  # there is no memory for a child, for example
            _log.warning("knowledge_not_tidied", folder=str(folder), error=str(error))
            return
        if done.returncode:
            _log.warning("knowledge_not_tidied", folder=str(folder), status=done.returncode, error=done.stderr[-500:])

    def _close(self) -> None:
        while self._shards:
            _, shard = self._shards.popitem()
            shard.close()
