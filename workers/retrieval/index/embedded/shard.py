"""One open collection of the embedded engine: blocking calls, to be made from one thread.

Every call of qdrant-edge (0.9) holds the GIL until it returns, so that two searching threads are no faster than one.
Long work is therefore divided into pieces of 256 points (10 to 30 ms), between which other threads can run.

There is no HNSW graph: a search compares the codes of all vectors that its filter lets through, see `points` and
`unfiltered`. A graph takes 106 s to build for 100,000 chunks, in which the whole process would be blocked, and finds
fewer of the nearest chunks (docs/knowledge-index.md). Larger indexes need a Qdrant server.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self
from uuid import UUID

import qdrant_edge as edge

from workers.retrieval.index.conditions import TIME, Conditions
from workers.retrieval.index.embedded.files import ABOUT, damaged, fsync, has_codes, read_info, translate_errors
from workers.retrieval.index.embedded.points import (
    VACUUM_FROM,
    VACUUM_SHARE,
    engine_config,
    engine_filter,
    engine_point,
)
from workers.retrieval.index.embedded.search import search_engine
from workers.retrieval.index.embedded.unfiltered import ScopeSizes
from workers.retrieval.index.older_chunks import PIECE, complete_tags, older_conditions
from workers.retrieval.index.records import (
    DENSE,
    FORMAT,
    KEYWORDS,
    PUBLISHED,
    WRITTEN,
    check_model,
    check_points,
    count_conditions,
    point_of,
    query_conditions,
    scope_conditions,
    scroll_conditions,
    superseded_conditions,
)
from workers.retrieval.ports import EmbeddingInfo, Hit, IndexPoint, IndexQuery, Scope

DATA: Final = "data"
_PREPARED: Final = "tmp-"
_PIECE: Final = 256
_WORTH_CODES: Final = 1000  # chunks; fewer are searched fast enough without
_FLUSH_AFTER: Final = 5000  # chunks in the log; replaying so many at the next start takes about 0.2 s


class Shard:
    """An open collection."""

    def __init__(self, folder: Path, info: EmbeddingInfo, engine: edge.EdgeShard, *, rewritten: bool = False) -> None:
        self.folder = folder
        self.info = info
        self._engine = engine
        self._removed = 0
        self._unflushed = 0
        self._sizes = ScopeSizes(lambda scope: self._count(scope_conditions(scope, state=PUBLISHED)))
        self._lacks_codes = not rewritten and not has_codes(folder / DATA, DENSE)

    @classmethod
    def create(cls, folder: Path, info: EmbeddingInfo) -> Self:
        """Create a collection under a temporary name and rename it, so that a crash leaves no partial collection."""
        new = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))
        try:
            with translate_errors(folder):
                engine = edge.EdgeShard.create(str(new / DATA), engine_config(info))
                for field in KEYWORDS:
                    index = edge.KeywordIndexParams(is_tenant=field == "tenant")
                    engine.update(edge.UpdateOperation.create_field_index(field, index))
                times = edge.IntegerIndexParams(lookup=False, range=True)
                engine.update(edge.UpdateOperation.create_field_index(TIME, times))
                engine.flush()
                engine.close()
            about = {"format": FORMAT, "model": info.id, "dimension": info.dimension}
            (new / ABOUT).write_text(json.dumps(about))
            new.rename(folder)
            fsync(folder.parent)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        return cls.load(folder)

    @classmethod
    def load(cls, folder: Path, *, rewritten: bool = False) -> Self:
        """Open a collection; the engine replays its log.

        Args:
            folder: the collection's folder.
            rewritten: whether it was rewritten just now; if that failed, it is not tried again in this process.

        Raises:
            IndexUnavailable: the folder is damaged.
        """
        info = read_info(folder)
        # Without this check, the engine would create an empty shard in a folder that has lost its segments.
        if not any((folder / DATA / "segments").glob("*")):
            raise damaged(folder, "its segments are missing")
        with translate_errors(folder):
            engine = edge.EdgeShard.load(str(folder / DATA), engine_config(info))
        return cls(folder, info, engine, rewritten=rewritten)

    def write(self, model: EmbeddingInfo, points: Sequence[IndexPoint], *, published: bool) -> None:
        """Write chunks, visible at once or not before they are published."""
        check_model(self.folder.name, self.info, model)
        check_points(model, points)
        ids = [point.id for point in points]
        visible = set(ids) if published else self._published(ids)
        self._update(edge.UpdateOperation.upsert_points([engine_point(point, visible) for point in points]))
        self._unflushed += len(points)
        self._sizes.changed(len(points))

    def publish(self, scope: Scope, source: str, revision: str) -> None:
        """Make a revision visible, then remove the others. Does nothing if the revision does not exist."""
        if not self._count(scope_conditions(scope, source=source, revision=revision)):
            return
        for ids in self._pieces(scope_conditions(scope, source=source, revision=revision, state=WRITTEN)):
            self._update(edge.UpdateOperation.set_payload(ids, {"state": PUBLISHED}))
            self._sizes.changed(len(ids))
        self._remove(superseded_conditions(scope, source, revision))

    def remove(self, scope: Scope, source: str | None, revision: str | None) -> int:
        """Remove chunks. Returns how many there were."""
        return self._remove(scope_conditions(scope, source=source, revision=revision))

    def count(self, scope: Scope, source: str | None, revision: str | None) -> int:
        """Count the published chunks, or all chunks of one revision."""
        return self._count(count_conditions(scope, source, revision))

    def search(self, model: EmbeddingInfo, query: IndexQuery) -> list[Hit]:
        """The best chunks; see `KnowledgeIndex.search`."""
        check_model(self.folder.name, self.info, model)
        conditions = query_conditions(query)
        if conditions is None:
            return []
        with translate_errors(self.folder):
            return search_engine(self._engine, query, engine_filter(conditions), self._sizes)

    def complete_piece(self, scopes: Sequence[Scope]) -> bool:
        """Add what is missing to some of the chunks that an earlier version wrote; False if there were none."""
        request = edge.ScrollRequest(
            limit=PIECE, filter=engine_filter(older_conditions(scopes)), with_payload=["payload"], with_vector=False
        )
        with translate_errors(self.folder):
            records, _ = self._engine.scroll(request)
        for ids, field in complete_tags(records):
            self._update(edge.UpdateOperation.set_payload(ids, field))
        return bool(records)

    def page(
        self, scope: Scope | None, source: str | None, after: edge.PointId | None, limit: int
    ) -> tuple[list[IndexPoint], edge.PointId | None]:
        """A page of published chunks from an id on, and the id of the next page; None at the end."""
        conditions = scroll_conditions(scope, source)
        with translate_errors(self.folder):
            records, following = self._engine.scroll(
                edge.ScrollRequest(
                    offset=after, limit=limit, filter=engine_filter(conditions), with_payload=True, with_vector=True
                )
            )
        return [point_of(record) for record in records], following

    def sync(self) -> None:
        """Sync the log to disk, so that all changes survive a power failure (they survive SIGKILL without it).

        The engine maps its log into memory and leaves writing to the kernel. Its own `flush` syncs about eighty files
        while holding the GIL, which takes 12 to 300 ms depending on the disk; this takes 1 ms and releases the GIL.
        """
        with translate_errors(self.folder):
            if self._unflushed >= _FLUSH_AFTER:
                self.flush()
            log = self.folder / DATA / "wal"
            # A thread of the engine prepares the log's next file under a temporary name, which disappears when the file
            # is renamed. The file is empty until then, so it can be skipped.
            segments = [path for path in log.iterdir() if not path.name.startswith(_PREPARED)]
            for path in [*segments, log]:
                fsync(path)

    def flush(self) -> None:
        """Flush the data to disk, so that the next start has less of the log to replay."""
        with translate_errors(self.folder):
            self._engine.flush()
        self._unflushed = 0

    def close(self) -> None:
        """Flush, and release the folder."""
        self.flush()
        with translate_errors(self.folder):
            self._engine.close()

    def worth_tidying(self) -> bool:
        """Whether much was removed since the collection was opened, or an earlier version wrote it, without codes."""
        if self._lacks_codes and self._count([]) >= _WORTH_CODES:
            return True
        # The usual case first, because counting 30,000 chunks holds the GIL for 3 ms.
        return self._removed >= VACUUM_FROM and self._removed >= VACUUM_SHARE * (self._count([]) + self._removed)

    def _update(self, operation: edge.UpdateOperation) -> None:
        with translate_errors(self.folder):
            self._engine.update(operation)

    def _published(self, ids: Sequence[str]) -> set[str]:
        """Those of the chunks that exist and are published."""
        with translate_errors(self.folder):
            records = self._engine.retrieve([UUID(id_) for id_ in ids], with_payload=["state"], with_vector=False)
        return {str(record.id) for record in records if (record.payload or {})["state"] == PUBLISHED}

    def _count(self, conditions: Conditions) -> int:
        with translate_errors(self.folder):
            return self._engine.count(edge.CountRequest(filter=engine_filter(conditions)))

    def _remove(self, conditions: Conditions) -> int:
        removed = 0
        for ids in self._pieces(conditions):
            self._update(edge.UpdateOperation.delete_points(ids))
            removed += len(ids)
        self._removed += removed
        self._sizes.changed(removed)
        return removed

    def _pieces(self, conditions: Conditions) -> Iterator[list[Any]]:
        """Ids of matching chunks until none is left. The caller must change each piece so that it no longer matches."""
        request = edge.ScrollRequest(
            limit=_PIECE, filter=engine_filter(conditions), with_payload=False, with_vector=False
        )
        while True:
            with translate_errors(self.folder):
                records, _ = self._engine.scroll(request)
            if not records:
                return
            yield [record.id for record in records]
