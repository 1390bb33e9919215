"""Joins the lines of a page into paragraphs: PDFs and pictures have the positions of text, not its structure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from itertools import pairwise
from typing import Final

from workers.retrieval.documents.plain import flow

_HYPHENED: Final = re.compile(r"\b\w+-\w+\b")
_WORD_CUT: Final = re.compile(r"(?<!\w)(\w+)[-\u2010]\n(\w+)(\S*)[ \n]?")
_ITEM: Final = re.compile(r"(?:[\u2022\u25aa\u25cf\u2023\u2013*-]|\(?\d{1,3}[.)]|\(?[a-z]\))\s")
# Ligatures of some fonts, which a search would not match.
_LIGATURES: Final = str.maketrans(
    {"\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl", "\ufb05": "st", "\ufb06": "st"}
)
# A line with this share of the length of the page's long lines continues in the next line; a shorter one ends a
# paragraph or is a heading.
_FULL: Final = 0.75
_SHORTEST_FULL: Final = 36


def words_with_hyphens(texts: Iterable[str]) -> frozenset[str]:
    """The words of a document that are hyphenated within a line, in lower case."""
    return frozenset(word.lower() for text in texts for word in _HYPHENED.findall(text))


def join_lines(text: str, hyphened: Collection[str]) -> str:
    """A page's text with each paragraph on one line.

    Args:
        text: its text, with one line for each line of the page.
        hyphened: words that keep their hyphen at the end of a line.
    """
    text = flow(text.translate(_LIGATURES))
    lines = _mend_words(text, hyphened).split("\n")
    lengths = sorted(len(line) for line in lines if line)
    if not lengths:
        return ""
    full = max(_SHORTEST_FULL, _FULL * lengths[int(len(lengths) * 0.9)])
    out = [lines[0]]
    for before, line in pairwise(lines):
        if line and len(before) >= full and not _ITEM.match(line):
            out[-1] += f" {line}"
        else:
            out.append(line)
    return "\n".join(out)


def _mend_words(text: str, hyphened: Collection[str]) -> str:
    """Join words that were hyphenated at the end of a line; the line break moves after the word."""

    def mend(cut: re.Match[str]) -> str:
        first, second, after = cut.groups()
        keeps = not second[0].islower() or f"{first}-{second}".lower() in hyphened
        return f"{first}{'-' if keeps else ''}{second}{after}\n"

    return _WORD_CUT.sub(mend, text)
