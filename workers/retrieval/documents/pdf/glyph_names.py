"""Reads which letters a ligature stands for from the name of its glyph: `f_f_i`, `T_h`, `uni0132`.

PDFium knows the names of glyphs that are Unicode characters (`fi`). Of other names it gives the glyph's number, so that
"financial" becomes "nancial". Fonts that are made by Adobe's programs name all ligatures so.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from typing import Any, Final

from pypdf import PdfReader

from workers.retrieval.documents.cpu_time import OutOfCpuTime, limited_cpu_time
from workers.retrieval.documents.pdf.damage import DAMAGE

_LETTER: Final = r"(?:[A-Za-z]|uni(?:[0-9A-F]{4})+|u[0-9A-F]{4,6})"
_LIGATURE: Final = re.compile(rf"/((?![A-Za-z](?:\.|$)){_LETTER}(?:_{_LETTER})*)(?:\..*)?")
_SUBSET: Final = re.compile(r"/?(?:[A-Z]{6}\+)?")  # before the name of a font of which the file has a part
_FOUR: Final = re.compile("[0-9A-F]{4}")
# Fonts of forms within forms within a page.
_DEPTH: Final = 3


class GlyphNames:
    """The names of glyphs in the encodings of a document's fonts. Nothing is read before the first question.

    Args:
        data: the document.
        seconds: the processor time to spend. After it, nothing is known.
    """

    def __init__(self, data: bytes, *, seconds: float) -> None:
        self._data = data
        self._left = seconds
        self._reader: PdfReader | None = None
        self._page: tuple[int, dict[str, dict[int, str]]] = (-1, {})

    def letters(self, page: int, font: str, code: int) -> str:
        """The letters of a glyph; empty if its name does not tell.

        Args:
            page: the page's number, 0-based.
            font: the font's name.
            code: the glyph's number.
        """
        if self._page[0] != page:
            self._page = page, self._read_page(page)
        return self._page[1].get(_name(font), {}).get(code, "")

    def _read_page(self, page: int) -> dict[str, dict[int, str]]:
        began = time.process_time()
        try:
            if self._left <= 0:
                return {}
            with limited_cpu_time(self._left):
                if self._reader is None:
                    self._reader = PdfReader(io.BytesIO(self._data))
                    if self._reader.is_encrypted:
                        self._reader.decrypt("")
                return _letters_by_font(self._reader.pages[page].get("/Resources"))
        except (OutOfCpuTime, RecursionError, *DAMAGE):
            return {}
        finally:
            self._left -= time.process_time() - began


def letters_of(name: str) -> str:
    """The letters that the name of a glyph stands for; empty if it does not tell.

    A letter alone is the name of a character that PDFium knows, or the number of a glyph in disguise.
    """
    if not (found := _LIGATURE.fullmatch(name)):
        return ""
    return "".join(_letter(part) for part in found[1].split("_"))


def _letter(part: str) -> str:
    if len(part) == 1:
        return part
    codes = _FOUR.findall(part) if part.startswith("uni") else [part[1:]]
    return "".join(chr(code) for code in (int(code, 16) for code in codes) if _is_character(code))


def _is_character(code: int) -> bool:
    return code <= 0x10FFFF and not 0xD800 <= code < 0xE000


def _letters_by_font(resources: Any) -> dict[str, dict[int, str]]:
    found: dict[str, dict[int, str]] = {}
    for font in _fonts(resources, _DEPTH):
        known = found.setdefault(_name(str(font.get("/BaseFont", ""))), {})
        for code, letters in _differences(font):
            # Two fonts of one name, such as two parts of one font, may disagree.
            known[code] = letters if known.get(code, letters) == letters else ""
    return found


def _name(font: str) -> str:
    """A font's name as PDFium gives it, which is with the prefix of a subset or without."""
    return _SUBSET.sub("", font, count=1)


def _fonts(resources: Any, depth: int) -> Iterator[Any]:
    resources = _resolved(resources)
    yield from _values(resources, "/Font")
    if depth:
        for drawn in _values(resources, "/XObject"):
            yield from _fonts(drawn.get("/Resources"), depth - 1)


def _values(resources: Any, name: str) -> Iterator[Any]:
    entries: Any = _resolved(resources.get(name)) if hasattr(resources, "get") else None
    for value in entries.values() if hasattr(entries, "values") else ():
        if hasattr(resolved := _resolved(value), "get"):
            yield resolved


def _differences(font: Any) -> Iterator[tuple[int, str]]:
    encoding = _resolved(font.get("/Encoding"))
    code = 0
    for entry in _resolved(encoding.get("/Differences")) or () if hasattr(encoding, "get") else ():
        if isinstance(entry, int):
            code = int(entry)
        else:
            yield code, letters_of(str(entry))
            code += 1


def _resolved(value: Any) -> Any:
    return value.get_object() if hasattr(value, "get_object") else value
