"""Normalizes text: characters, spaces and line ends."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from itertools import groupby
from typing import Final

_LINE_ENDS: Final = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
_ESCAPES: Final = re.compile("\x1b\\[[0-9;?]*[ -/]*[@-~]")
_INVISIBLE: Final = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\xad\u200b\u2060\ufeff\ufffe\uffff\ud800-\udfff]")
_SPACES: Final = re.compile("[ \t\xa0\u2000-\u200a\u202f\u205f\u3000]+")
_BLANK_LINES: Final = re.compile("\n{3,}")


def clean(text: str) -> str:
    """Normalize line ends and characters (NFC), and remove invisible characters; indentation is kept.

    NFC, so that decomposed text, such as file names from macOS, matches composed text.
    """
    text = _LINE_ENDS.sub("\n", text)
    text = _INVISIBLE.sub("", _ESCAPES.sub("", text))
    text = unicodedata.normalize("NFC", _with_fewer_marks(text))
    text = "\n".join(line.rstrip(" \t\xa0") for line in text.split("\n"))
    return _BLANK_LINES.sub("\n\n", text).strip("\n")


def _with_fewer_marks(text: str) -> str:
    """Limit combining marks to 30 per character (Unicode's stream-safe format), more than any script needs.

    Normalization sorts a character's marks in quadratic time: 80 kB of them took 2.4 s while holding the GIL.
    """
    return text if text.isascii() else _marks().sub(r"\1", text)


@cache
def _marks() -> re.Pattern[str]:
    marks = [code for code in range(0x300, 0x20000) if unicodedata.combining(chr(code))]
    runs = [[code for _, code in run] for _, run in groupby(enumerate(marks), lambda pair: pair[1] - pair[0])]
    every = "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in runs)
    return re.compile(f"([{every}]{{30}})[{every}]+")


def flow(text: str) -> str:
    """Clean text in which spaces have no meaning: one space between words, none at the ends of lines."""
    lines = (line.strip(" ") for line in _SPACES.sub(" ", clean(text)).split("\n"))
    return _BLANK_LINES.sub("\n\n", "\n".join(lines)).strip()


def one_line(text: str) -> str:
    """Clean text without line breaks, for a heading or a cell."""
    words = " ".join(text.split())
    return words if words.isascii() and words.isprintable() else " ".join(clean(text).split())  # fast for large tables
