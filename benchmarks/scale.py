"""The amounts of work, and how a scenario reports its progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

ProgressCallback = Callable[[str], None]


@dataclass(frozen=True)
class Scale:
    """The amounts of work.

    Attributes:
        points: sizes of collections that are searched, in chunks; qdrant-client's local mode is asked only up to
            `local_most`.
        memories: of one user; searches: for each figure; pages: of the PDF that is indexed.
        sessions: in a list; lists: pages of it, for each figure.
        backlogs: turns of one tenant that wait; singles: turns of another one, for each figure.
        book: chunks of the document that is indexed while something else is measured; it must not end before that.
    """

    turns: int = 2000
    rounds: int = 2
    blocking: int = 300
    bare: int = 600
    slow: int = 1000
    streams: int = 200
    history: int = 10_000
    samples: int = 200
    in_flight: int = 20
    appends: int = 1_000
    writers: int = 8
    points: tuple[int, ...] = (1_000, 10_000, 100_000)
    local_most: int = 10_000
    memories: int = 10_000
    searches: int = 200
    pages: int = 24
    book: int = 3_000
    sessions: int = 1_000_000
    lists: int = 1_000
    backlogs: tuple[int, ...] = (100, 1_000, 10_000)
    singles: int = 9


QUICK = Scale(
    turns=60, rounds=1, blocking=20, bare=20, slow=50, streams=10, history=200, samples=10, in_flight=5, appends=40,
    writers=2, points=(50, 200), local_most=50, memories=100, searches=10, pages=2,
    book=400, sessions=10_000, lists=20, backlogs=(40, 80), singles=3,
)  # fmt: skip
