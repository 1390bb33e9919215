"""The rows of memory and knowledge: one worker of each role, and an index that exists before they start."""

from __future__ import annotations

import time
import uuid

from benchmarks.knowledge_alone import knowledge_alone
from benchmarks.knowledge_fleet import ingest, reader, searching
from benchmarks.memory_fleet import memory_fleet
from benchmarks.recall_cost import neighbours, recalls
from benchmarks.report import Row
from benchmarks.rig import Process, Rig
from benchmarks.scale import ProgressCallback, Scale
from benchmarks.search_paths import search_paths


def retrieval_rows(rig: Rig, scale: Scale, progress: ProgressCallback) -> list[Row]:
    """All of it; the index belongs first to this process, then to the retrieval worker."""
    rows = knowledge_alone(rig, scale, progress)
    turns = rig.worker("turns", SESSIONFLEET_ROLE="turns")
    retrieval = rig.worker("retrieval", SESSIONFLEET_ROLE="retrieval")
    sizes = [
        _size(turns, "turns worker, idle", "as it starts"),
        _size(retrieval, "retrieval worker, idle", "as it starts"),
    ]
    first, grown = _first_search(rig, scale, retrieval)
    rows += [*ingest(rig, scale, retrieval, progress), first, *searching(rig, scale, progress)]
    sizes += [grown, _size(retrieval, "... after searching all sizes", f"{sum(scale.points):,} chunks, and an ingest")]
    user = uuid.uuid4().hex
    rows += memory_fleet(rig, scale, user, progress)
    sizes.append(_size(retrieval, f"... with {scale.memories:,} memories", "a copy of which it keeps"))
    rows += [*recalls(rig, scale, user, progress), *search_paths(rig, scale, user, progress)]
    rows += neighbours(rig, scale, progress)
    turns.end()
    retrieval.end()
    return [*rows, *sizes]


def _first_search(rig: Rig, scale: Scale, worker: Process) -> tuple[Row, Row]:
    began = time.perf_counter()
    reader(rig, scale.points[0]).search_knowledge("the first one")
    took = time.perf_counter() - began
    row = Row("first search of a worker, s", took, means="it loads the model and opens the index")
    return row, _size(worker, "... after its first search", f"model, and an index of {scale.points[0]:,} chunks")


def _size(worker: Process, what: str, means: str) -> Row:
    return Row(f"{what}, RSS, MB", worker.rss() / 1e6, means=means)
