"""One collection of the embedded engine, on disk and open: the engine's calls, blocking, for one thread.

Every call of qdrant-edge (0.9) holds the interpreter's lock from start to end; two threads that search are no faster
than one. So long work is cut into pieces between which other threads run: 256 points cost 10 to 30 ms.

There is no graph (HNSW): a search scores the vectors that its filter lets through. With 100,000 chunks that takes 4 ms
in a scope of 2,000 and 16 ms in one of 100,000, exactly; the graph would make 2.5 ms of these, approximately, and its
building would stop the whole process for 106 s (docs/knowledge-index.md). Beyond that, a Qdrant server.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self, cast
from uuid import UUID

import qdrant_edge as edge

from sessions.errors import IndexUnavailable
from workers.retrieval.index.records import (
    DENSE,
    FORMAT,
    KEYWORDS,
    LEXICAL,
    PUBLISHED,
    WRITTEN,
    Condition,
    check_model,
    check_points,
    cosine,
    counted,
    hit,
    lexical,
    restored,
    stored,
    superseded,
    wanted,
    within,
)
from workers.retrieval.ports import EmbeddingInfo, Hit, IndexPoint, IndexQuery, Scope, SparseVector

ABOUT: Final = "collection.json"
DATA: Final = "data"
_PREPARED: Final = "tmp-"

_PIECE: Final = 256
_NO_GRAPH: Final = 1_000_000_000  # kilobytes of vectors from which on the engine would build one
_FLUSH_AFTER: Final = 5000  # chunks in the log that the next start would write again, in about 0.2 s
_VACUUM_FROM: Final = 1000  # the engine's own bounds for rewriting a segment: so many removed points,
_VACUUM_SHARE: Final = 0.2  # and this share of all


class Shard:
    """An open collection."""

    def __init__(self, folder: Path, info: EmbeddingInfo, engine: edge.EdgeShard) -> None:
        self.folder = folder
        self.info = info
        self._engine = engine
        self._removed = 0
        self._unflushed = 0

    @classmethod
    def create(cls, folder: Path, info: EmbeddingInfo) -> Self:
        """A new collection; it appears in its place whole, so that a crash leaves no half of one."""
        new = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))
        try:
            with translated(folder):
                engine = edge.EdgeShard.create(str(new / DATA), _config(info))
                for field in KEYWORDS:
                    index = edge.KeywordIndexParams(is_tenant=field == "tenant")
                    engine.update(edge.UpdateOperation.create_field_index(field, index))
                engine.flush()
                engine.close()
            about = {"format": FORMAT, "model": info.id, "dimension": info.dimension}
            (new / ABOUT).write_text(json.dumps(about))
            new.rename(folder)
            _fsync(folder.parent)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        return cls.load(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open a collection; the engine repeats what it had in its log only.

        Raises:
            IndexUnavailable: the folder is damaged.
        """
        info = about(folder)
        # The engine makes an empty shard of a folder that lost its segments, and would call it whole.
        if not any((folder / DATA / "segments").glob("*")):
            raise damaged(folder, "its segments are missing")
        with translated(folder):
            return cls(folder, info, edge.EdgeShard.load(str(folder / DATA), _config(info)))

    def write(self, model: EmbeddingInfo, points: Sequence[IndexPoint]) -> None:
        """Write chunks, unpublished."""
        check_model(self.folder.name, self.info, model)
        check_points(model, points)
        published = self._published([point.id for point in points])
        self._update(edge.UpdateOperation.upsert_points([_engine_point(point, published) for point in points]))
        self._unflushed += len(points)

    def publish(self, scope: Scope, source: str, revision: str) -> None:
        """Make a revision visible, then remove the others; nothing where there is no such revision."""
        if not self._count(within(scope, source=source, revision=revision)):
            return
        for ids in self._pieces(within(scope, source=source, revision=revision, state=WRITTEN)):
            self._update(edge.UpdateOperation.set_payload(ids, {"state": PUBLISHED}))
        self._remove(superseded(scope, source, revision))

    def remove(self, scope: Scope, source: str | None, revision: str | None) -> int:
        """Remove chunks; how many there were."""
        return self._remove(within(scope, source=source, revision=revision))

    def count(self, scope: Scope, source: str | None, revision: str | None) -> int:
        """How many published chunks there are; of one revision, all."""
        return self._count(counted(scope, source, revision))

    def search(self, model: EmbeddingInfo, query: IndexQuery, *, rrf_k: int, candidates: int) -> list[Hit]:
        """The best chunks; see `KnowledgeIndex.search`."""
        check_model(self.folder.name, self.info, model)
        conditions = wanted(query)
        prefetches = [] if conditions is None else _prefetches(query, _filter(conditions), candidates)
        if not prefetches:
            return []
        request = edge.QueryRequest(
            limit=query.limit,
            query=cast(edge.Fusion, edge.Fusion.Rrf(rrf_k)),  # the stubs know no Rrf as a Fusion
            prefetches=prefetches,
            with_payload=True,
            with_vector=[DENSE] if query.dense is not None else False,
        )
        with translated(self.folder):
            return [_hit(query, point) for point in self._engine.query(request)]

    def page(
        self, scope: Scope | None, after: edge.PointId | None, limit: int
    ) -> tuple[list[IndexPoint], edge.PointId | None]:
        """Published chunks from an id on, and the id to go on with; None at the end."""
        conditions = [Condition("state", (PUBLISHED,))] if scope is None else within(scope, state=PUBLISHED)
        with translated(self.folder):
            records, following = self._engine.scroll(
                edge.ScrollRequest(
                    offset=after, limit=limit, filter=_filter(conditions), with_payload=True, with_vector=True
                )
            )
        return [_restored(record) for record in records], following

    def sync(self) -> None:
        """Have the log on the disk, and with it all changes: safe from a power cut, as they are from SIGKILL anyway.

        The engine maps its log into memory and leaves the rest to the kernel. Its own `flush` syncs some eighty files
        and holds the interpreter's lock meanwhile, 12 to 300 ms as busy as the disk is; this takes 1 ms and none of it.
        """
        with translated(self.folder):
            if self._unflushed >= _FLUSH_AFTER:
                self.flush()
            log = self.folder / DATA / "wal"
            # A thread of the engine prepares the log's next file under another name, which is gone once that is there;
            # nothing is in it before.
            segments = [path for path in log.iterdir() if not path.name.startswith(_PREPARED)]
            for path in [*segments, log]:
                _fsync(path)

    def flush(self) -> None:
        """Have the data on the disk, so that the next start repeats less of the log."""
        with translated(self.folder):
            self._engine.flush()
        self._unflushed = 0

    def close(self) -> None:
        """Flush, and give the folder back."""
        self.flush()
        with translated(self.folder):
            self._engine.close()

    def worth_tidying(self) -> bool:
        """So many chunks were removed since it was opened that rewriting the rest pays."""
        return self._removed >= max(_VACUUM_FROM, _VACUUM_SHARE * (self._count([]) + self._removed))

    def _update(self, operation: edge.UpdateOperation) -> None:
        with translated(self.folder):
            self._engine.update(operation)

    def _published(self, ids: Sequence[str]) -> set[str]:
        """Those of the chunks that are there and visible."""
        with translated(self.folder):
            records = self._engine.retrieve([UUID(id_) for id_ in ids], with_payload=["state"], with_vector=False)
        return {str(record.id) for record in records if (record.payload or {})["state"] == PUBLISHED}

    def _count(self, conditions: Sequence[Condition]) -> int:
        with translated(self.folder):
            return self._engine.count(edge.CountRequest(filter=_filter(conditions)))

    def _remove(self, conditions: Sequence[Condition]) -> int:
        removed = 0
        for ids in self._pieces(conditions):
            self._update(edge.UpdateOperation.delete_points(ids))
            removed += len(ids)
        self._removed += removed
        return removed

    def _pieces(self, conditions: Sequence[Condition]) -> Iterator[list[Any]]:
        """Ids that match, until none does any more: what is done to each piece must take it out of the match."""
        request = edge.ScrollRequest(limit=_PIECE, filter=_filter(conditions), with_payload=False, with_vector=False)
        while True:
            with translated(self.folder):
                records, _ = self._engine.scroll(request)
            if not records:
                return
            yield [record.id for record in records]


def about(folder: Path) -> EmbeddingInfo:
    """Whose vectors a collection holds.

    Raises:
        IndexUnavailable: that cannot be read, or a newer version of Sessionfleet wrote it.
    """
    try:
        read = json.loads((folder / ABOUT).read_text())
        version, info = read["format"], EmbeddingInfo(read["model"], read["dimension"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(folder, f"{ABOUT} cannot be read: {error}") from error
    if version != FORMAT:
        raise IndexUnavailable(
            f"the knowledge in {str(folder)!r} has the format {version!r}, and this version of Sessionfleet reads "
            f"{FORMAT}; use the version that wrote it, or move the folder away and add the documents again"
        )
    return info


def damaged(folder: Path, reason: str) -> IndexUnavailable:
    """The error for a folder that cannot be used as it is."""
    return IndexUnavailable(
        f"the knowledge in {str(folder)!r} is damaged ({reason}); put back a copy of the folder, or move it away and "
        "add the documents again"
    )


@contextlib.contextmanager
def translated(folder: Path) -> Iterator[None]:
    """The engine's errors, which have no classes, and its panics, which are no Exceptions, as ours."""
    try:
        yield
    except IndexUnavailable:
        raise
    except BaseException as error:
        if "WouldBlock" in str(error):
            raise IndexUnavailable(f"another process has {str(folder)!r} open still; try again in a moment") from error
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise damaged(folder, " ".join(str(error).split())) from error
        raise


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _config(info: EmbeddingInfo) -> edge.EdgeConfig:
    return edge.EdgeConfig(
        vectors={DENSE: edge.EdgeVectorParams(info.dimension, edge.Distance.Cosine)},
        sparse_vectors={LEXICAL: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)},
        optimizers=edge.EdgeOptimizersConfig(
            indexing_threshold=_NO_GRAPH, deleted_threshold=_VACUUM_SHARE, vacuum_min_vector_number=_VACUUM_FROM
        ),
        max_search_threads=1,  # one segment, one thread: more would only wait
    )


def _engine_point(point: IndexPoint, published: set[str]) -> edge.Point:
    terms = edge.SparseVector(list(point.sparse.indices), list(point.sparse.values))
    return edge.Point(UUID(point.id), {DENSE: list(point.dense), LEXICAL: terms}, stored(point, published))


def _filter(conditions: Sequence[Condition]) -> edge.Filter:
    must: list[edge.ConditionType] = []
    must_not: list[edge.ConditionType] = []
    for condition in conditions:
        match = edge.FieldCondition(condition.field, match=edge.MatchAny(list(condition.values)))
        (must_not if condition.negated else must).append(match)
    return edge.Filter(must=must, must_not=must_not)


def _prefetches(query: IndexQuery, allowed: edge.Filter, candidates: int) -> list[edge.Prefetch]:
    limit = max(candidates, query.limit)
    wanted_vectors: list[tuple[Any, str]] = []
    if query.dense is not None:
        wanted_vectors.append((list(query.dense), DENSE))
    if terms := lexical(query):
        wanted_vectors.append((edge.SparseVector(list(terms.indices), list(terms.values)), LEXICAL))
    return [
        edge.Prefetch(limit=limit, query=edge.Query.Nearest(vector, using=name), filter=allowed)
        for vector, name in wanted_vectors
    ]


def _hit(query: IndexQuery, point: edge.ScoredPoint) -> Hit:
    vectors: Any = point.vector
    similarity = None if query.dense is None else cosine(query.dense, vectors[DENSE])
    return hit(str(point.id), point.score, point.payload or {}, similarity)


def _restored(record: edge.Record) -> IndexPoint:
    vectors: Any = record.vector
    terms = vectors.get(LEXICAL)
    sparse = SparseVector(terms.indices, terms.values) if terms else SparseVector([], [])
    return restored(str(record.id), record.payload or {}, vectors[DENSE], sparse)
