"""A font for Chinese, Japanese and Korean text whose own fonts are not in the file.

Such files name a font and a table of characters that every reader knows, and rely on the reader's machine for the
shapes. PDFium measures text by its shapes, and omits without a word what has no width: single characters, and lines
that are written from top to bottom. Servers have no such fonts, so PDFium gets one from here. All its characters have
the same shape, a box of their usual size, since only their places matter.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any, Final

import pypdfium2

# What Windows calls the character sets of these scripts: Japanese, Korean, simplified and traditional Chinese.
_CHARSETS: Final = frozenset({128, 129, 134, 136})
_HANDLE: Final = 0x5F5F
_EM: Final = 1000
_TOP: Final = 880
_WHOLE_FONT: Final = 0


def install() -> None:
    """Let PDFium use the font from now on, whatever fonts the machine has."""
    _Fonts().setup()


class _Fonts(pypdfium2.PdfSysfontBase):  # type: ignore[misc]  # the package has no types
    """PDFium's view of the machine's fonts, with one more. The names of the methods are PDFium's."""

    def __init__(self) -> None:
        super().__init__()
        self._file = _font_file()

    def MapFont(self, this: Any, weight: int, italic: int, charset: int, *name: Any) -> Any:  # noqa: N802
        if charset in _CHARSETS:
            return _HANDLE
        return self.default.MapFont(self.default, weight, italic, charset, *name)

    def GetFontData(self, this: Any, font: Any, table: int, buffer: Any, size: int) -> int:  # noqa: N802
        if font != _HANDLE:
            return int(self.default.GetFontData(self.default, font, table, buffer, size))
        if table != _WHOLE_FONT:
            return 0
        if buffer and size >= len(self._file):
            ctypes.memmove(buffer, self._file, len(self._file))
        return len(self._file)

    def GetFaceName(self, this: Any, font: Any, buffer: Any, size: int) -> int:  # noqa: N802
        return 0 if font == _HANDLE else int(self.default.GetFaceName(self.default, font, buffer, size))

    def GetFontCharset(self, this: Any, font: Any) -> int:  # noqa: N802
        return 0 if font == _HANDLE else int(self.default.GetFontCharset(self.default, font))

    def DeleteFont(self, this: Any, font: Any) -> None:  # noqa: N802
        if font != _HANDLE:
            self.default.DeleteFont(self.default, font)


def _font_file() -> bytes:
    """A TrueType font with two glyphs, both a box: one for unknown characters, one for all characters of Unicode."""
    tables = {
        b"cmap": struct.pack(
            ">4HI 2H3I 3I", 0, 1, 3, 10, 12, 13, 0, 28, 0, 1, 0x20, 0x10FFFF, 1
        ),  # format 13: a range of characters has one glyph
        b"glyf": 2 * _box(),
        b"head": struct.pack(
            ">4I2H2Q4h2H3h", 1 << 16, 1 << 16, 0, 0x5F0F3CF5, 0, _EM, 0, 0, 0, 0, _EM, _TOP, 0, 8, 2, 0, 0
        ),
        b"hhea": struct.pack(">I3hH11hH", 1 << 16, _TOP, _TOP - _EM, 0, _EM, 0, 0, _EM, 1, *(7 * [0]), 2),
        b"hmtx": struct.pack(">HhHh", _EM, 0, _EM, 0),
        b"loca": struct.pack(">3H", 0, len(_box()) // 2, len(_box())),
        b"maxp": struct.pack(">I14H", 1 << 16, 2, 4, 1, 0, 0, 1, *(8 * [0])),
    }
    place = 12 + 16 * len(tables)
    directory, contents = struct.pack(">I4H", 1 << 16, len(tables), 64, 2, 16 * len(tables) - 64), b""
    for name, table in tables.items():
        padded = table + bytes(-len(table) % 4)
        checksum = sum(struct.unpack(f">{len(padded) // 4}I", padded)) & 0xFFFFFFFF
        directory += struct.pack(">4s3I", name, checksum, place + len(contents), len(table))
        contents += padded
    return directory + contents


def _box() -> bytes:
    """The outline of a rectangle over the whole of a character."""
    corners = struct.pack(">8h", 0, 0, _EM, 0, 0, _TOP, 0, -_TOP)
    glyph = struct.pack(">5h2H4B", 1, 0, 0, _EM, _TOP, 3, 0, 1, 1, 1, 1) + corners
    return glyph + bytes(-len(glyph) % 4)
