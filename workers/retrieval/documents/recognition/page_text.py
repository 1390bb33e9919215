"""Puts recognised lines into reading order, with the rules for lines of a PDF: see `layout.columns`.

A page that lies on a scanner is seldom straight. The lines say by how much it is turned, and are turned back first,
since a row across two columns would otherwise not be one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from workers.retrieval.documents.cpu_time import OutOfCpuTime, limited_cpu_time
from workers.retrieval.documents.layout.columns import in_reading_order, rows
from workers.retrieval.documents.layout.word import Line, Word
from workers.retrieval.documents.recognition.engine import Engine, RecognitionFailed, TextBox

_STEEPEST: Final = math.radians(20)
# Boxes are larger than their letters: this part of their height is filled, and this is empty at each end.
_LETTERS: Final = 0.7
_BESIDE: Final = 0.15


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
        return "\n".join(in_reading_order(rows_of(boxes)))


def rows_of(boxes: Sequence[TextBox]) -> list[Line]:
    """The words of the boxes with their places, with y upwards as in a PDF, row by row as if the page were straight."""
    wide = [box for box in boxes if _width(box) > 2 * _height(box)]
    angles = [angle for angle in map(_angle, wide) if abs(angle) < _STEEPEST]
    turned = median(angles) if angles else 0.0
    return rows([word for box in boxes for word in _line(box, turned=turned)])


def _line(box: TextBox, *, turned: float) -> Line:
    """The words of a box. Their widths are taken to be as their numbers of characters."""
    corners = [_turned_back(corner, turned) for corner in box.corners]
    left, right = min(x for x, _ in corners), max(x for x, _ in corners)
    middle = sum(y for _, y in corners) / 4
    height = _height(box)
    left, right, half = left + _BESIDE * height, right - _BESIDE * height, _LETTERS * height / 2
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
