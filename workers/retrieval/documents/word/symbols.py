"""Characters of symbol fonts, whose codes mean something else than in Unicode."""

# ruff: noqa: RUF001 - letters that look alike are the purpose of these tables

from __future__ import annotations

import re
from typing import Final

# The font 'Symbol', codes 0x20 to 0x7E and 0xA0 to 0xFE. A space stands for a code without character.
_SYMBOL_LOW: Final = " !∀#∃%&∋()∗+,−./0123456789:;<=>?≅ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_ αβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}∼"
_SYMBOL_HIGH: Final = "€ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…|—↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓◊⟨®©™∑⎛⎜⎝⎡⎢⎣⎧⎨⎩⎪ ⟩∫⌠⎮⌡⎞⎟⎠⎤⎥⎦⎫⎬⎭"
# The characters of the Wingdings fonts that occur in texts: boxes to tick, ticks, crosses, arrows.
_WINGDINGS: Final = {
    0x4A: "☺", 0x4C: "☹", 0x6C: "●", 0x6E: "■", 0x6F: "□", 0x71: "❑", 0x75: "◆", 0x76: "❖", 0xA7: "▪", 0xA8: "☐",
    0xD8: "➢", 0xDF: "←", 0xE0: "→", 0xE1: "↑", 0xE2: "↓", 0xE8: "➔", 0xF0: "⇨", 0xFB: "✗", 0xFC: "✓", 0xFD: "☒",
    0xFE: "☑",
}  # fmt: skip
_WINGDINGS_2: Final = {0x4F: "✗", 0x50: "✓", 0x51: "☒", 0x52: "☑", 0x53: "☒", 0x54: "☒", 0xA3: "□"}
_SYMBOL: Final = dict(enumerate(_SYMBOL_LOW, 0x20)) | dict(enumerate(_SYMBOL_HIGH, 0xA0))
_FONTS: Final = {"symbol": _SYMBOL, "wingdings": _WINGDINGS, "wingdings 2": _WINGDINGS_2}
# Word also writes codes of symbol fonts as characters of a private area: 0xF000 plus the code.
_PRIVATE: Final = re.compile("[\uf000-\uf0ff]")
_PRIVATE_START: Final = 0xF000


def symbol(font: str, code: str) -> str:
    """The character with a hexadecimal code in a font (`w:sym`); '' if it is a picture without a meaning in texts."""
    try:
        number = int(code, 16)
    except ValueError:
        return ""
    table = _FONTS.get(font.lower())
    if table is not None or _PRIVATE_START <= number <= _PRIVATE_START + 0xFF:
        return (table or {}).get(number & 0xFF, "")
    return chr(number) if 0x20 <= number < 0xD800 or 0xE000 <= number < 0xFFFE else ""


def readable(text: str, font: str) -> str:
    """A text in a font: Greek letters instead of the Latin ones that stand for them in the font 'Symbol'."""
    if font.lower() == "symbol":
        return "".join(_SYMBOL.get(ord(char), char) for char in _PRIVATE.sub(_without_offset, text))
    if not text.isascii() and _PRIVATE.search(text):
        return _PRIVATE.sub(lambda match: symbol(font, f"{ord(match[0]):x}"), text)
    return text


def _without_offset(char: re.Match[str]) -> str:
    return chr(ord(char[0]) - _PRIVATE_START)
