"""Documents through the whole fleet: from the client's call through queue and retrieval worker to the result."""

from __future__ import annotations

import contextlib
import itertools
import time
import uuid
from collections.abc import Iterator

from benchmarks.knowledge_alone import BASE, collection_of, compared
from benchmarks.producers import latencies
from benchmarks.report import Row
from benchmarks.rig import Process, Rig, metered
from benchmarks.scale import ProgressCallback, Scale
from benchmarks.synthetic_data import Texts, prose
from sessions import Session

_names = itertools.count()


def reader(rig: Rig, points: int, user_id: str | None = None, queue: str = "turns") -> Session:
    """A session that has the collection of this size as its knowledge."""
    at = {"provider": "qdrant", "config": {"collection_name": collection_of(points)}}
    knowledge = {"bases": [BASE], "vector_store": at}
    return Session(f"reader-{next(_names)}", user_id, knowledge=knowledge, queue=queue, settings=rig.settings)


@contextlib.contextmanager
def ingesting(session: Session, chunks: int) -> Iterator[None]:
    """Meanwhile, the fleet indexes a document that never ends."""
    book = session.submit_knowledge(Texts().book(chunks), name=f"{uuid.uuid4().hex}.txt")
    next(each for each in book.progress() if each.stage == "embedding")  # it is read and cut first
    yield
    if book.status.final:
        raise RuntimeError(f"the book ended ({book.status}) while others were measured: it must be longer")
    book.cancel()


def ingest(rig: Rig, scale: Scale, worker: Process, progress: ProgressCallback) -> list[Row]:
    """A PDF with many pages, indexed by `add_knowledge`."""
    session = Session(settings=rig.settings)
    session.add_knowledge("Something short, so that model and index are loaded.")
    progress(f"a PDF of {scale.pages} pages")
    began = time.perf_counter()
    with metered(rig, worker) as meter:
        receipt = session.add_knowledge(prose(scale.pages), name="docs.pdf")
    took = time.perf_counter() - began
    assert isinstance(receipt, dict)
    return [
        Row("ingest of a PDF, pages/s", scale.pages / took,
            means=f"add_knowledge() of {scale.pages} full pages, until they can be found"),
        Row("... chunks/s", receipt["chunks"] / took, means=f"{receipt['chunks']} chunks; see the embedding rate"),
        Row("... CPU of the worker per page, ms", meter.worker / scale.pages * 1000, means="the parser's child aside"),
    ]  # fmt: skip


def searching(rig: Rig, scale: Scale, progress: ProgressCallback) -> list[Row]:
    """`search_knowledge` at each size, alone and while the worker ingests."""
    rows = []
    for points in scale.points:
        session, texts = reader(rig, points), Texts()

        def search(_: int, session: Session = session, texts: Texts = texts) -> None:
            assert session.search_knowledge(texts.sentence(6), min_score=0)

        progress(f"{points:,} chunks: searched through the fleet")
        search(0)
        alone = latencies(scale.searches, search)
        with ingesting(session, scale.book):
            busy = latencies(scale.searches, search)
        rows += compared(f"search_knowledge() in {points:,} chunks, fleet", alone, busy)
    return rows
