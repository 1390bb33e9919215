"""The cost of memory and knowledge for a turn: its own lookups, and those of others."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator

from benchmarks.knowledge_fleet import ingesting, reader
from benchmarks.producers import INSTRUCTIONS, agent, latencies, quantile
from benchmarks.report import Row
from benchmarks.rig import Rig
from benchmarks.scale import ProgressCallback, Scale
from benchmarks.synthetic_data import Texts
from sessions import Agent

_SEARCHERS = 2
_names = itertools.count()


def recalls(rig: Rig, scale: Scale, user: str, progress: ProgressCallback) -> list[Row]:
    """Blocking turns of agents with and without memory and knowledge, alternating, so that noise affects all."""
    points, texts = scale.points[min(1, len(scale.points) - 1)], Texts()
    kinds = {"neither": (False, False), "memory": (True, False), "knowledge": (False, True), "both": (True, True)}
    agents = {name: _agent(rig, points, user, *kind) for name, kind in kinds.items()}
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    progress("turns with memory and knowledge")
    for number in range(scale.searches + 5):
        for name, one in agents.items():
            took = latencies(1, lambda _, one=one: one.chat(texts.sentence(12)))
            taken[name] += took if number >= 5 else []
    p50 = {name: quantile(sorted(each), 0.5) * 1000 for name, each in taken.items()}
    where = f"{scale.memories:,} memories of the user, {points:,} chunks"
    return [
        Row("chat() without memory and knowledge, p50, ms", p50["neither"], means="the same turn, in the same minutes"),
        *(
            Row(f"... {_named(name)}, p50, ms", p50[name], ratio=f"+{p50[name] - p50['neither']:.1f} ms", means=where)
            for name in ("memory", "knowledge", "both")
        ),
    ]  # fmt: skip


def neighbours(rig: Rig, scale: Scale, progress: ProgressCallback) -> list[Row]:
    """Blocking turns of a session without lookups, while others search and documents are indexed."""
    points = scale.points[min(1, len(scale.points) - 1)]
    one = agent(rig)
    one.chat("hello")

    def turns() -> list[float]:
        return latencies(scale.searches, lambda _: one.chat("hello"))

    progress("turns while others search and ingest")
    alone = turns()
    with _searchers(rig, points):
        searched = turns()
        with ingesting(reader(rig, points), scale.book):
            both = turns()
    p50, p99 = (quantile(alone, share) * 1000 for share in (0.5, 0.99))
    rows = [Row("chat() without searches, p50, ms", p50), Row("... p99, ms", p99)]
    for name, taken in ((f"{_SEARCHERS} clients search", searched), ("they search and a book is ingested", both)):
        now50, now99 = (quantile(taken, share) * 1000 for share in (0.5, 0.99))
        rows += [
            Row(f"... while {name}, p50, ms", now50, ratio=f"{now50 / p50:.1f} x alone",
                means="a turn without lookups; client, server and both workers share the machine"),
            Row("... p99, ms", now99, ratio=f"{now99 / p99:.1f} x alone"),
        ]  # fmt: skip
    return rows


def _agent(rig: Rig, points: int, user: str, memory: bool, knowledge: bool) -> Agent:
    session = reader(rig, points, user)
    return session.Agent("bench", instructions=INSTRUCTIONS, memory=memory, knowledge=knowledge)


def _named(kind: str) -> str:
    return "with both" if kind == "both" else f"with {kind}=True"


@contextlib.contextmanager
def _searchers(rig: Rig, points: int) -> Iterator[None]:
    """Threads that search, one search after the other."""
    done, texts = threading.Event(), Texts()

    def search() -> None:
        session = reader(rig, points)
        while not done.is_set():
            session.search_knowledge(texts.sentence(6), min_score=0)

    threads = [threading.Thread(target=search) for _ in range(_SEARCHERS)]
    for thread in threads:
        thread.start()
    yield
    done.set()
    for thread in threads:
        thread.join()
