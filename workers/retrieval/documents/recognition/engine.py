"""The engine of text recognition: PP-OCRv6 through rapidocr, whose package contains the models. It needs no network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

LONGEST_SIDE: Final = 2400
"""Pixels. The engine makes larger pictures smaller, so no larger ones are drawn for it."""

Point = tuple[float, float]
# A line of text that the engine is less sure of than this is mostly dirt, or a part of a picture.
_LEAST_SCORE: Final = 0.5


@dataclass(frozen=True, slots=True)
class TextBox:
    """A line of text with its corners in pixels, y downwards: upper left, upper right, lower right, lower left."""

    text: str
    corners: tuple[Point, Point, Point, Point]


Engine = Callable[[Any], list[TextBox]]
"""Finds the lines of text of a picture: an array of height, width and three colours (blue, green, red)."""


class RecognitionFailed(Exception):
    """The engine failed at a picture. The message continues 'it could not be recognised: '."""


def load_engine(threads: int) -> Engine:
    """Load the models, which takes some seconds.

    Raises:
        ModuleNotFoundError: the extra is not installed.
    """
    import cv2  # noqa: PLC0415 - of the extra
    from rapidocr import RapidOCR  # noqa: PLC0415 - of the extra

    cv2.setNumThreads(threads)
    onnx = "EngineConfig.onnxruntime"
    engine: Callable[[Any], Any] = RapidOCR(  # its result has one of four types, by what it is asked to do
        params={
            "Global.log_level": "critical",
            "Global.text_score": _LEAST_SCORE,
            f"{onnx}.intra_op_num_threads": threads,
            f"{onnx}.inter_op_num_threads": 1,
        }
    )

    def recognise(picture: Any) -> list[TextBox]:
        try:
            found = engine(picture)
        except Exception as error:  # the packages below have exceptions of their own for all kinds of problems
            said = f"{type(error).__name__}: {error}"
            problem = "it takes too much memory" if isinstance(error, MemoryError) or "alloc" in said else said[:200]
            raise RecognitionFailed(problem) from error
        if found.boxes is None or found.txts is None:
            return []
        return [
            TextBox(text, tuple((float(x), float(y)) for x, y in box))  # type: ignore[arg-type]
            for text, box in zip(found.txts, found.boxes, strict=True)
        ]

    return recognise
