"""A word on a page: of a PDF, or of a picture whose text was recognised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_RIGHT_TO_LEFT: Final = range(0x590, 0x900)


@dataclass(frozen=True, slots=True)
class Word:
    """A word and its place on the page: in points from the lower left corner of a PDF, in pixels of a picture.

    `is_apart` says that the PDF has a space before it, which PDFium did not conclude from its place.
    """

    text: str
    left: float
    right: float
    bottom: float
    top: float
    is_apart: bool = False

    @property
    def height(self) -> float:
        """The height of its line of text."""
        return self.top - self.bottom

    @property
    def is_right_to_left(self) -> bool:
        """Whether its script is written from right to left."""
        return ord(self.text[0]) in _RIGHT_TO_LEFT

    def turned(self, quarters: int) -> Word:
        """The word on a page that was turned clockwise by this many quarter turns."""
        word = self
        for _ in range(quarters):
            word = Word(word.text, word.bottom, word.top, -word.right, -word.left, word.is_apart)
        return word


Line = tuple[Word, ...]


def smaller_height(before: Word, after: Word) -> float:
    """The height of the smaller one of two words, by which gaps between them are measured."""
    return min(before.height, after.height)
