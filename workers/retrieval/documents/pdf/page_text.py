"""Text of one page as PDFium finds it: words with their places, in lines, and the characters that have no meaning.

PDFium puts glyphs together to words and lines by their places, however they were drawn. It does not detect columns:
see `columns`. Filled-in forms and typed notes are annotations; they are merged into the page before it is read.
"""

from __future__ import annotations

import ctypes
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import pypdfium2
import pypdfium2.raw as pdfium

from workers.retrieval.documents.layout.columns import in_reading_order
from workers.retrieval.documents.layout.word import Line, Word
from workers.retrieval.documents.pdf.accents import ACCENTS, with_accents
from workers.retrieval.documents.pdf.doubled import doubled
from workers.retrieval.documents.pdf.glyph_names import GlyphNames
from workers.retrieval.documents.pdf.legibility import is_legible, is_text
from workers.retrieval.documents.pdf.spaces import false_spaces
from workers.retrieval.documents.pdf.superscripts import joined
from workers.retrieval.documents.pdf.utf8_mapping import with_letters

# PDFium writes these for a hyphen at the end of a line, and omits the line break after it.
_LINE_END_HYPHENS: Final = "\x02\ufffe"
# Characters that fonts use for glyphs of their own: logos, bullets, and letters whose meaning was not recorded.
_PRIVATE: Final = range(0xE000, 0xF900)
_IMAGE_AREA: Final = 0.3
# A picture of this part of a page is the page; a text of so few characters on it is a stamp or a page number.
_WHOLE_PAGE: Final = 0.8
_STAMP_GLYPHS: Final = 100
_SAMPLE: Final = 64  # characters of a page
_SIMPLE_CODES: Final = 256  # numbers of glyphs in fonts whose encoding has names
_LONGEST_NAME: Final = 256


@dataclass(frozen=True, slots=True)
class PageText:
    """Text of one page.

    Attributes:
        text: one line for each line of the page, in reading order.
        glyphs: the number of characters drawn, except spaces.
        unmapped: how many of them the file does not map to Unicode. They are not in the text.
        pictured: whether the page consists of pictures; a page without text is then a scan.
        stamped: whether the page is a picture with hardly any text on it. It may be a scan, or a slide.
        recognised: whether the text was recognised.
    """

    text: str
    glyphs: int = 0
    unmapped: int = 0
    pictured: bool = False
    stamped: bool = False
    recognised: bool = False


def read_page(document: pypdfium2.PdfDocument, number: int, names: GlyphNames) -> PageText:
    """Read one page.

    Args:
        number: 0-based.
        names: of the glyphs of the document's fonts.

    Raises:
        pypdfium2.PdfiumError: the page cannot be loaded.
    """
    page = document[number]
    if pdfium.FPDFPage_GetAnnotCount(page.raw) > 0 and pdfium.FPDFPage_Flatten(page.raw, pdfium.FLAT_NORMALDISPLAY):
        page.close()
        page = document[number]
    try:
        text_page = page.get_textpage()
        try:
            found = _Characters(text_page.raw, partial(names.letters, number)).read()
        finally:
            text_page.close()
        pictured = _pictured(page) if found.glyphs <= _STAMP_GLYPHS else 0.0
        text = with_letters("\n".join(in_reading_order(joined(found.lines))))
    finally:
        page.close()
    is_scan = not found.glyphs and pictured >= _IMAGE_AREA
    return PageText(text, found.glyphs, found.unmapped, is_scan, found.glyphs > 0 and pictured >= _WHOLE_PAGE)


@dataclass(slots=True)
class _Found:
    lines: list[Line] = field(default_factory=list)
    glyphs: int = 0
    unmapped: int = 0


class _Characters:
    """Collects the characters of a page into words and lines."""

    def __init__(self, raw: Any, letters: Callable[[str, int], str]) -> None:
        self._raw = raw
        self._letters = letters
        self._found = _Found()
        self._line: list[Word] = []
        self._box = pdfium.FS_RECTF()
        self._unmapped: set[int] = set()
        self._word: list[str] = []
        self._places: list[int] = []
        self._is_apart = False

    def read(self) -> _Found:
        """All lines, in PDFium's order, as on a page that is held so that its text is upright."""
        chars = list(_decoded(self._raw))
        named = self._named(chars)
        self._unmapped = _unmapped(self._raw, [(index, char) for index, char in chars if index not in named])
        again = doubled(chars, self._place)
        chars = [(index, named.get(index, char)) for index, char in chars if index not in again]
        false = false_spaces(chars, self._place, self._is_added)
        for index, char in chars:
            if index in false:
                continue
            if char in _LINE_END_HYPHENS and pdfium.FPDFText_IsHyphen(self._raw, index) == 1:
                self._add(index, "-")
                self._end_line()
            elif char in "\r\n":
                self._end_line()
            elif char.isspace():
                self._end_word()
                self._is_apart = not self._is_added(index)
            else:
                self._add(index, char)
        self._end_line()
        turns = _quarter_turns(self._raw, len(chars))
        self._found.lines = [tuple(word.turned(turns) for word in line) for line in self._found.lines if line]
        return self._found

    def _named(self, chars: Sequence[tuple[int, str]]) -> dict[int, str]:
        """The letters of glyphs that PDFium has no character for, but whose names tell."""
        named = {}
        for index, char in chars:
            code = ord(char)
            if 0 < code < _SIMPLE_CODES and pdfium.FPDFText_HasUnicodeMapError(self._raw, index) == 1:
                named[index] = self._letters(_font_name(self._raw, index), code)
        return {index: letters for index, letters in named.items() if letters}

    def _add(self, index: int, char: str) -> None:
        """Add a character, or the letters of a ligature."""
        self._found.glyphs += 1
        if index in self._unmapped:
            self._found.unmapped += 1
            return
        self._word.extend(char)
        self._places.extend([index] * len(char))

    def _end_word(self) -> None:
        if self._word:
            text = "".join(self._word)
            if not ACCENTS.isdisjoint(text):
                text = with_accents(text, [self._place(index)[:2] for index in self._places])
            self._line.append(self._placed(text, self._places[0], self._places[-1]))
            self._word, self._places, self._is_apart = [], [], False

    def _placed(self, text: str, first: int, last: int) -> Word:
        places = [self._place(index) for index in (first, last)]
        return Word(
            text,
            min(box[0] for box in places),
            max(box[1] for box in places),
            min(box[2] for box in places),
            max(box[3] for box in places),
            self._is_apart,
        )

    def _place(self, index: int) -> tuple[float, float, float, float]:
        """Left, right, bottom and top of a character."""
        box = self._box
        pdfium.FPDFText_GetLooseCharBox(self._raw, index, ctypes.byref(box))
        return box.left, box.right, box.bottom, box.top

    def _is_added(self, index: int) -> bool:
        """Whether a space is not in the file; PDFium concluded it from the places of its neighbours."""
        return bool(pdfium.FPDFText_IsGenerated(self._raw, index) == 1)

    def _end_line(self) -> None:
        self._end_word()
        self._found.lines.append(tuple(self._line))
        self._line = []


def _unmapped(raw: Any, chars: Sequence[tuple[int, str]]) -> set[int]:
    """The indexes of the characters that are not what they seem to be."""
    by_font: defaultdict[int | None, list[tuple[int, str]]] = defaultdict(list)
    unmapped = set()
    for index, char in chars:
        if ord(char) in _PRIVATE or char == "\ufffd":
            unmapped.add(index)
        elif pdfium.FPDFText_HasUnicodeMapError(raw, index) == 1 and not is_legible(char):
            by_font[_font(raw, index)].append((index, char))
    for found in by_font.values():
        if not is_text("".join(char for _, char in found)):
            unmapped.update(index for index, _ in found)
    return unmapped


def _font(raw: Any, index: int) -> int | None:
    drawn = pdfium.FPDFText_GetTextObject(raw, index)
    font = pdfium.FPDFTextObj_GetFont(drawn) if drawn else None
    return ctypes.cast(font, ctypes.c_void_p).value if font else None


def _font_name(raw: Any, index: int) -> str:
    drawn = pdfium.FPDFText_GetTextObject(raw, index)
    font = pdfium.FPDFTextObj_GetFont(drawn) if drawn else None
    if not font:
        return ""
    name = ctypes.create_string_buffer(_LONGEST_NAME)
    pdfium.FPDFFont_GetBaseFontName(font, name, _LONGEST_NAME)
    return name.value.decode(errors="replace")


def _quarter_turns(raw: Any, count: int) -> int:
    """How far a page must be turned clockwise so that most of its text is upright, in quarter turns."""
    sample = range(0, count, 1 + count // _SAMPLE)
    angles = Counter(-round(pdfium.FPDFText_GetCharAngle(raw, index) / (math.pi / 2)) % 4 for index in sample)
    return angles.most_common(1)[0][0] if angles else 0


def _decoded(raw: Any) -> Iterator[tuple[int, str]]:
    """Each character with its index. Older PDFium gives characters beyond U+FFFF as two surrogates."""
    high = 0
    for index in range(pdfium.FPDFText_CountChars(raw)):
        code = pdfium.FPDFText_GetUnicode(raw, index)
        if 0xD800 <= code < 0xDC00:
            high = code
        elif 0xDC00 <= code < 0xE000:
            if high:
                yield index, chr(0x10000 + ((high - 0xD800) << 10) + code - 0xDC00)
            high = 0
        else:
            yield index, chr(code) if code <= 0x10FFFF else "\ufffd"


def _pictured(page: pypdfium2.PdfPage) -> float:
    """The part of a page that pictures cover."""
    width, height = page.get_size()
    covered = 0.0
    for picture in page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE], max_depth=4):
        left, bottom, right, top = picture.get_bounds()
        covered += max(0.0, right - left) * max(0.0, top - bottom)
    return float(covered / max(1.0, width * height))
