"""Puts recognised lines into reading order, with the rules for lines of a PDF: see `layout.columns`.

A page that lies on a scanner is seldom straight. The lines say by how much it is turned, and are turned back first,
since a row across two columns would otherwise not be one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Final

from workers.retrieval.documents.cpu_time import OutOfCpuTime, limited_cpu_time
from workers.retrieval.documents.layout.columns import in_reading_order
from workers.retrieval.documents.layout.word import Line, Word
from workers.retrieval.documents.recognition.advice import MISSING
from workers.retrieval.documents.recognition.engine import Engine, RecognitionFailed, TextBox

_STEEPEST: Final = math.radians(20)
# What one line of the page is: boxes whose middles differ by less than this share of their heights.
_SAME_ROW: Final = 0.5


@dataclass(frozen=True, slots=True)
class Recogniser:
    """Recognises pages with an engine, each within a limit.

    Attributes:
        pages: the pages of the document that may be recognised.
        page_seconds: CPU time for each.
    """

    engine: Engine
    pages: int
    page_seconds: float

    def read(self, picture: Any) -> str:
        """The text of a picture (see `Engine`), one line for each of its lines; '' if it has none.

        Raises:
            RecognitionFailed: the engine failed, or took too long.
        """
        try:
            with limited_cpu_time(self.page_seconds):
                boxes = self.engine(picture)
        except OutOfCpuTime as error:
            raise RecognitionFailed(f"it takes more than {self.page_seconds:g} s of CPU time") from error
        return "\n".join(in_reading_order(lines_of(boxes)))


def _ignore(*_: object) -> None:
    """The default callbacks."""


@dataclass(frozen=True, slots=True)
class Recognition:
    """Text recognition as a reader of documents sees it.

    Attributes:
        problem: why there is none, as in `advice`; '' if there is.
        recogniser: None if there is none, or not in this process.
        wanted: called with the pages (1-based) that need it, before it begins, or would.
        on_page: called before each page that is recognised: its number, how many are done, and how many there are.
    """

    problem: str = MISSING
    recogniser: Recogniser | None = None
    wanted: Callable[[Sequence[int]], None] = _ignore
    on_page: Callable[[int, int, int], None] = _ignore


NO_RECOGNITION: Final = Recognition()


def lines_of(boxes: Sequence[TextBox]) -> list[Line]:
    """The words of the boxes with their places, with y upwards as in a PDF, row by row as if the page were straight."""
    wide = [box for box in boxes if _width(box) > 2 * _height(box)]
    angles = [angle for angle in map(_angle, wide) if abs(angle) < _STEEPEST]
    turned = median(angles) if angles else 0.0
    lines = [line for line in map(partial(_line, turned=turned), boxes) if line]
    return sorted(lines, key=partial(_place, rows=_row_middles(lines)))


def _row_middles(lines: Sequence[Line]) -> list[float]:
    """The middles of the rows, from top to bottom."""
    rows: list[float] = []
    for middle, height in sorted(((_middle(line), line[0].height) for line in lines), reverse=True):
        if not rows or rows[-1] - middle > _SAME_ROW * height:
            rows.append(middle)
    return rows


def _place(line: Line, rows: Sequence[float]) -> tuple[int, float]:
    row = min(range(len(rows)), key=lambda number: abs(rows[number] - _middle(line)))
    return row, line[0].left


def _middle(line: Line) -> float:
    return (line[0].bottom + line[0].top) / 2


def _line(box: TextBox, *, turned: float) -> Line:
    """The words of a box. Their widths are taken to be as their numbers of characters."""
    corners = [_turned_back(corner, turned) for corner in box.corners]
    left, right = min(x for x, _ in corners), max(x for x, _ in corners)
    middle = sum(y for _, y in corners) / 4
    half = _height(box) / 2
    each = (right - left) / max(1, len(box.text))
    return tuple(
        Word(word, left + each * start, left + each * (start + len(word)), -middle - half, -middle + half)
        for start, word in _words(box.text)
    )


def _words(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    for word in text.split(" "):
        if word.strip():
            yield start, word.strip()
        start += len(word) + 1


def _turned_back(corner: tuple[float, float], angle: float) -> tuple[float, float]:
    x, y = corner
    return x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)


def _angle(box: TextBox) -> float:
    (left, top), (right, bottom), *_ = box.corners
    return math.atan2(bottom - top, right - left)


def _width(box: TextBox) -> float:
    return math.dist(box.corners[0], box.corners[1])


def _height(box: TextBox) -> float:
    return math.dist(box.corners[0], box.corners[3])
