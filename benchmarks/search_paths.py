"""Searches that a process answers directly, and the same searches as turns of a lane, alternating."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from benchmarks.knowledge_fleet import reader
from benchmarks.producers import INSTRUCTIONS, quantile
from benchmarks.report import Row
from benchmarks.rig import Rig
from benchmarks.scale import ProgressCallback, Scale
from benchmarks.synthetic_data import Texts
from sessions.protocol.knowledge_requests import SearchKnowledge
from sessions.protocol.memory_requests import SearchMemory
from sessions.protocol.operation import OperationRequest

_LANE = "lane"  # the queue of the worker whose turns search through the lane
_UNCOUNTED = 5


def search_paths(rig: Rig, scale: Scale, user: str, progress: ProgressCallback) -> list[Row]:
    """Searches of a client, and turns with memory and knowledge; a worker of each role runs already."""
    points, texts = scale.points[min(1, len(scale.points) - 1)], Texts()
    lane = rig.worker(
        _LANE,
        SESSIONFLEET_ROLE="turns",
        SESSIONFLEET_QUEUES=_LANE,
        SESSIONFLEET_IMPORTS="benchmarks.doubles,benchmarks.through_the_lane",
    )
    progress("searches, directly and through the lane")
    session = reader(rig, points, user)

    def memory() -> None:
        session.search_memory(texts.sentence(6))

    def knowledge() -> None:
        session.search_knowledge(texts.sentence(6), min_score=0)

    rows: list[Row] = []
    for name, search, request in (
        (f"search_memory() in {scale.memories:,}", memory, SearchMemory),
        (f"search_knowledge() in {points:,} chunks", knowledge, SearchKnowledge),
    ):
        rows += _compared(name, search, _as_turn(search, request), scale.searches)
    plain = _chat(rig, points, user, texts, recalls=False)
    direct, through = _chat(rig, points, user, texts), _chat(rig, points, user, texts, queue=_LANE)
    rows += _compared("chat() with memory and knowledge", direct, through, scale.searches, without=plain)
    lane.end()
    return rows


def _chat(
    rig: Rig, points: int, user: str, texts: Texts, *, recalls: bool = True, queue: str = "turns"
) -> Callable[[], object]:
    session = reader(rig, points, user, queue)
    agent = session.Agent("bench", instructions=INSTRUCTIONS, memory=recalls, knowledge=recalls)
    return lambda: agent.chat(texts.sentence(12))


def _as_turn(search: Callable[[], None], request: type[OperationRequest]) -> Callable[[], object]:
    def searched() -> None:
        with _through_the_lane(request):
            search()

    return searched


@contextlib.contextmanager
def _through_the_lane(request: type[OperationRequest]) -> Iterator[None]:
    request.direct = False
    try:
        yield
    finally:
        request.direct = True


def _compared(
    what: str,
    direct: Callable[[], object],
    through: Callable[[], object],
    count: int,
    without: Callable[[], object] | None = None,
) -> list[Row]:
    calls = {"directly": direct, "through the lane": through} | ({"without": without} if without else {})
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(count + _UNCOUNTED):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if number >= _UNCOUNTED:
                taken[name].append(time.perf_counter() - began)
    p50 = {name: quantile(sorted(each), 0.5) * 1000 for name, each in taken.items()}
    p90 = {name: quantile(sorted(each), 0.9) * 1000 for name, each in taken.items()}
    base = p50.get("without")
    rows = (
        [] if base is None else [Row("chat() without them, p50, ms", base, means="the same turn, in the same minutes")]
    )
    for name in ("through the lane", "directly"):
        adds = "" if base is None else f"+{p50[name] - base:.1f} ms"
        ratio = f"{p50[name] / p50['through the lane']:.2f} x the lane" if name == "directly" else ""
        rows += [
            Row(f"{what}, {name}, p50, ms", p50[name], ratio=", ".join(part for part in (adds, ratio) if part)),
            Row("... p90, ms", p90[name]),
        ]
    return rows
